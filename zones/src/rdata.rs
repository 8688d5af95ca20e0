//! RDATA in wire form. Names inside are uncompressed and in lower case (RFC 4034 section 6.2, RFC 3597 section 4).

use crate::{Error, Name};
use std::sync::Arc;

/// The RDATA of one record, shared by everything that shows it.
pub type Rdata = Arc<[u8]>;

/// What an SMIMEA record says about its certificate: the certificate usage of RFC 6698 section 2.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A CA certificate; the path must also validate to a public anchor.
    PkixTa = 0,
    /// The end-entity certificate; the path must also validate to a public anchor.
    PkixEe = 1,
    /// A CA certificate as the trust anchor.
    DaneTa = 2,
    /// The end-entity certificate itself.
    DaneEe = 3,
}

/// Octets of an SMIMEA record before its certificate: usage, selector, matching type.
pub const SMIMEA_PREFIX: usize = 3;

/// An SMIMEA record that carries a whole certificate: selector 0, matching type 0 (RFC 8162 section 2).
#[must_use]
pub fn smimea(usage: Usage, der: &[u8]) -> Rdata {
    let mut rdata = Vec::with_capacity(SMIMEA_PREFIX + der.len());
    rdata.extend_from_slice(&[usage as u8, 0, 0]);
    rdata.extend_from_slice(der);
    rdata.into()
}

/// What an SMIMEA record of anybody says (RFC 6698 section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smimea<'a> {
    /// Certificate usage; 0 to 3 have a meaning.
    pub usage: u8,
    /// 0 the certificate, 1 its SubjectPublicKeyInfo.
    pub selector: u8,
    /// 0 as it is, 1 SHA-256, 2 SHA-512.
    pub matching: u8,
    /// The certificate association data.
    pub data: &'a [u8],
}

/// Reads the RDATA of an SMIMEA record.
pub fn read_smimea(rdata: &[u8]) -> Result<Smimea<'_>, Error> {
    match rdata {
        [usage, selector, matching, data @ ..] if !data.is_empty() => {
            Ok(Smimea { usage: *usage, selector: *selector, matching: *matching, data })
        }
        _ => Err(Error::Rdata { rtype: "SMIMEA", reason: "it is shorter than four octets" }),
    }
}

/// How a CERT record of type PKIX carries a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertForm {
    /// RFC 4398 section 2.1: the length of an object identifier, id-at-userCertificate, the DER.
    Rfc4398,
    /// The DER alone, as the software of the Direct Project writes and reads it.
    BareDer,
}

/// Type PKIX (1), key tag 0, algorithm 0 (RFC 4398 section 2).
const CERT_PKIX: [u8; 5] = [0, 1, 0, 0, 0];
/// Length and value of id-at-userCertificate, 2.5.4.36 (RFC 4398 section 2.1).
const USER_CERTIFICATE: [u8; 4] = [0x03, 0x55, 0x04, 0x24];

/// A CERT record of type PKIX with a person's certificate.
#[must_use]
pub fn cert(form: CertForm, der: &[u8]) -> Rdata {
    let mut rdata = Vec::with_capacity(CERT_PKIX.len() + USER_CERTIFICATE.len() + der.len());
    rdata.extend_from_slice(&CERT_PKIX);
    if form == CertForm::Rfc4398 {
        rdata.extend_from_slice(&USER_CERTIFICATE);
    }
    rdata.extend_from_slice(der);
    rdata.into()
}

/// The DER of the certificate in a CERT record, in either form; key tag and algorithm are not looked at.
pub fn read_cert(rdata: &[u8]) -> Result<&[u8], Error> {
    let data = match rdata {
        [0, 1, _, _, _, data @ ..] => data,
        [_, _, _, _, _, ..] => {
            return Err(Error::Rdata { rtype: "CERT", reason: "its type is not PKIX" });
        }
        _ => {
            return Err(Error::Rdata { rtype: "CERT", reason: "it is shorter than five octets" });
        }
    };
    // A certificate is a SEQUENCE, 0x30; an object identifier of 48 octets does not occur here.
    match data.strip_prefix(&USER_CERTIFICATE).unwrap_or(data) {
        der @ [0x30, ..] => Ok(der),
        _ => Err(Error::Rdata {
            rtype: "CERT",
            reason: "it holds neither a certificate nor id-at-userCertificate and one",
        }),
    }
}

/// The start of a zone (RFC 1035 section 3.3.13). Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// The primary name server.
    pub mname: Name,
    /// The mailbox of the person responsible, as a name.
    pub rname: Name,
    /// The zone's version, in serial number arithmetic (RFC 1982).
    pub serial: u32,
    /// How often secondaries ask.
    pub refresh: u32,
    /// How soon they ask again after a failure.
    pub retry: u32,
    /// When they give up answering.
    pub expire: u32,
    /// TTL of denials (RFC 2308 section 4).
    pub minimum: u32,
}

/// The RDATA of an SOA record.
#[must_use]
pub fn soa(soa: &Soa) -> Rdata {
    let mut rdata = Vec::with_capacity(soa.mname.as_wire().len() + soa.rname.as_wire().len() + 20);
    rdata.extend_from_slice(soa.mname.as_wire());
    rdata.extend_from_slice(soa.rname.as_wire());
    for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    rdata.into()
}

/// Reads the RDATA of an SOA record.
pub fn read_soa(rdata: &[u8]) -> Result<Soa, Error> {
    const BAD: Error = Error::Rdata { rtype: "SOA", reason: "it is not two names and five numbers" };
    let (mname, rest) = Name::split_from(rdata).map_err(|_| BAD)?;
    let (rname, rest) = Name::split_from(rest).map_err(|_| BAD)?;
    let mut numbers =
        rest.chunks_exact(4).map(|four| four.iter().fold(0u32, |number, octet| number << 8 | u32::from(*octet)));
    let mut next = || numbers.next().ok_or(BAD);
    let soa =
        Soa { mname, rname, serial: next()?, refresh: next()?, retry: next()?, expire: next()?, minimum: next()? };
    if rest.len() == 20 { Ok(soa) } else { Err(BAD) }
}

/// The RDATA of an NS record.
#[must_use]
pub fn ns(server: &Name) -> Rdata {
    server.as_wire().into()
}

/// The RDATA of an SRV record (RFC 2782).
#[must_use]
pub fn srv(priority: u16, weight: u16, port: u16, target: &Name) -> Rdata {
    let numbers = [priority, weight, port].map(u16::to_be_bytes);
    [numbers.as_flattened(), target.as_wire()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cert_forms_read_back() {
        let der = [0x30, 0x03, 0x02, 0x01, 0x05];
        assert_eq!(&*cert(CertForm::Rfc4398, &der), [0, 1, 0, 0, 0, 3, 0x55, 4, 0x24, 0x30, 3, 2, 1, 5]);
        assert_eq!(&*cert(CertForm::BareDer, &der), [0, 1, 0, 0, 0, 0x30, 3, 2, 1, 5]);
        for form in [CertForm::Rfc4398, CertForm::BareDer] {
            assert_eq!(read_cert(&cert(form, &der)), Ok(&der[..]));
        }
        // A key tag and an algorithm as Direct software writes them.
        assert_eq!(read_cert(&[0, 1, 0x12, 0x34, 5, 0x30, 0]), Ok(&[0x30, 0][..]));
    }

    #[test]
    fn other_certs_are_refused() {
        for rdata in [
            &[][..],
            &[0, 1, 0, 0],
            &[0, 1, 0, 0, 0],
            &[0, 3, 0, 0, 0, 0x30, 0],                   // PGP
            &[0, 4, 0, 0, 0, 0x30, 0],                   // IPKIX
            &[0, 1, 0, 0, 0, 3, 0x55, 4, 0x25, 0x30, 0], // a CA certificate
            &[0, 1, 0, 0, 0, 3, 0x55, 4, 0x24],
        ] {
            assert_eq!(read_cert(rdata).unwrap_err().code(), "bad-rdata", "{rdata:?}");
        }
    }

    #[test]
    fn smimea_reads_back() {
        let rdata = smimea(Usage::DaneEe, &[0x30, 0]);
        assert_eq!(&*rdata, [3, 0, 0, 0x30, 0]);
        assert_eq!(read_smimea(&rdata), Ok(Smimea { usage: 3, selector: 0, matching: 0, data: &[0x30, 0] }));
        assert!(read_smimea(&[3, 0, 0]).is_err());
    }

    #[test]
    fn soa_reads_back_and_cut_off_is_refused() {
        let start = Soa {
            mname: Name::parse("ns.example.org").unwrap(),
            rname: Name::parse("host\\.master.example.org").unwrap(),
            serial: 4_000_000_000,
            refresh: 1,
            retry: 2,
            expire: 3,
            minimum: 300,
        };
        let rdata = soa(&start);
        assert_eq!(read_soa(&rdata), Ok(start));
        for len in 0..rdata.len() {
            assert!(read_soa(&rdata[..len]).is_err(), "{len}");
        }
        let mut long = rdata.to_vec();
        long.extend_from_slice(&[0; 4]);
        assert!(read_soa(&long).is_err());
    }
}
