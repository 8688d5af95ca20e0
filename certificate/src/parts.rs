//! The parts of a certificate that path validation looks at, found in its DER when they are asked for.

use crate::certificate::Certificate;
use crate::der::{self, Element, Problem, Reader, tag};

/// The parts of a certificate, as slices of its DER.
pub(crate) struct Parts<'a> {
    /// What is signed.
    pub(crate) tbs: &'a [u8],
    /// The serial number in its shortest form.
    pub(crate) serial: &'a [u8],
    /// `SubjectPublicKeyInfo`.
    pub(crate) key: &'a [u8],
    /// The `AlgorithmIdentifier` of the signature.
    pub(crate) algorithm: &'a [u8],
    /// The octets of the signature.
    pub(crate) signature: &'a [u8],
    extensions: Option<Element<'a>>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(certificate: &'a Certificate) -> Result<Parts<'a>, Problem> {
        let mut parts = der::only(certificate.der(), tag::SEQUENCE)?.open();
        let signed = parts.expect(tag::SEQUENCE)?;
        let algorithm = parts.expect(tag::SEQUENCE)?;
        let signature = parts.expect(tag::BIT_STRING)?;
        let mut tbs = signed.open();
        tbs.optional(tag::context_constructed(0))?;
        let serial = tbs.expect(tag::INTEGER)?;
        // Algorithm, issuer, validity, subject.
        for _ in 0..4 {
            tbs.expect(tag::SEQUENCE)?;
        }
        let key = tbs.expect(tag::SEQUENCE)?;
        tbs.optional(tag::context(1))?;
        tbs.optional(tag::context(2))?;
        let extensions = tbs.optional(tag::context_constructed(3))?;
        Ok(Parts {
            tbs: signed.raw,
            serial: shortest(serial.value),
            key: key.raw,
            algorithm: algorithm.raw,
            signature: whole_octets(signature.value)?,
            extensions,
        })
    }

    /// The contents of an extension.
    pub(crate) fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        Extensions(self.extension_list()?)
            .flatten()
            .find(|extension| extension.oid == oid)
            .map(|extension| extension.value)
    }

    /// A reader of the extensions.
    pub(crate) fn extension_list(&self) -> Option<Reader<'a>> {
        self.extensions.as_ref()?.open().expect(tag::SEQUENCE).ok().map(|list| list.open())
    }

    pub(crate) fn has_extensions(&self) -> bool {
        self.extensions.is_some()
    }
}

/// A serial number's octets in the one form that DER has for its value (X.690 section 8.3.2). 255 keeps its zero: some
/// authorities have negative ones.
pub(crate) fn shortest(mut serial: &[u8]) -> &[u8] {
    while let [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] = serial {
        serial = serial.get(1..).unwrap_or_default();
    }
    serial
}

/// A BIT STRING whose bits are octets: a signature or a key.
pub(crate) fn whole_octets(bit_string: &[u8]) -> Result<&[u8], Problem> {
    match der::bit_string(bit_string)? {
        (0, octets) => Ok(octets),
        _ => Err("a signature or key is not made of whole octets"),
    }
}

/// One extension of a certificate, a CRL, an entry of one, or an OCSP response (RFC 5280 section 4.2).
pub(crate) struct Extension<'a> {
    pub(crate) oid: &'a [u8],
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

/// Goes through `Extensions`. Ends behind the first malformed one.
pub(crate) struct Extensions<'a>(pub(crate) Reader<'a>);

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut read = || {
            let mut extension = self.0.expect(tag::SEQUENCE)?.open();
            let oid = extension.expect(tag::OID)?.value;
            let critical = extension.optional(tag::BOOLEAN)?.map_or(Ok(false), |flag| der::boolean(flag.value))?;
            let value = extension.expect(tag::OCTET_STRING)?.value;
            extension.finish()?;
            Ok(Extension { oid, critical, value })
        };
        let read = read();
        if read.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(read)
    }
}
