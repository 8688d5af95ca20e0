//! Where a certificate's issuer and its revocation status are to be found: authority information access and CRL
//! distribution points (RFC 5280 sections 4.2.2.1 and 4.2.1.13), and the names they use.

use crate::der::{self, Element, Problem, tag};
use crate::distinguished_name::{canonical_below, canonical_name};
use crate::parts::Parts;
use crate::refusal::MAX_URI;

const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 31];
pub(crate) const AUTHORITY_INFORMATION_ACCESS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];
const OCSP: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
const CA_ISSUERS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];

/// `uniformResourceIdentifier` and `directoryName` in a `GeneralName`.
const URI: u8 = tag::context(6);
const DIRECTORY_NAME: u8 = tag::context_constructed(4);

/// Most distribution points, and most names of one, that are looked at.
const MOST: usize = 64;

/// A `GeneralName` that compares equal when the name is the same: directory names in canonical form, all others as they
/// are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GeneralName {
    tag: u8,
    value: Vec<u8>,
}

impl GeneralName {
    pub(crate) fn read(element: &Element<'_>) -> Result<GeneralName, Problem> {
        let value = match element.tag {
            DIRECTORY_NAME => canonical_name(&der::only(element.value, tag::SEQUENCE)?)?,
            _ => element.value.to_vec(),
        };
        Ok(GeneralName { tag: element.tag, value })
    }

    /// The contents of `GeneralNames`.
    pub(crate) fn read_all(names: &Element<'_>) -> Result<Vec<GeneralName>, Problem> {
        let mut reader = names.open();
        let mut all = Vec::new();
        while !reader.is_empty() {
            if all.len() == MOST {
                return Err("a distribution point has too many names");
            }
            all.push(GeneralName::read(&reader.next()?)?);
        }
        Ok(all)
    }

    pub(crate) fn directory(canonical: Vec<u8>) -> GeneralName {
        GeneralName { tag: DIRECTORY_NAME, value: canonical }
    }

    /// The canonical form of a directory name.
    pub(crate) fn as_directory(&self) -> Option<&[u8]> {
        (self.tag == DIRECTORY_NAME).then_some(self.value.as_slice())
    }

    fn as_uri(&self) -> Option<&str> {
        (self.tag == URI && self.value.len() <= MAX_URI && self.value.is_ascii())
            .then(|| std::str::from_utf8(&self.value).ok())
            .flatten()
            .filter(|uri| !uri.is_empty() && !uri.bytes().any(|octet| octet <= b' ' || octet == 0x7f))
    }
}

/// `DistributionPointName` (RFC 5280 section 4.2.1.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PointName {
    Full(Vec<GeneralName>),
    /// The contents of a relative name below the CRL issuer's.
    Relative(Vec<u8>),
}

impl PointName {
    /// The element is the `[0]` around it.
    pub(crate) fn read(element: &Element<'_>) -> Result<PointName, Problem> {
        let mut reader = element.open();
        let name = reader.next()?;
        reader.finish()?;
        if name.tag == tag::context_constructed(0) {
            GeneralName::read_all(&name).map(PointName::Full)
        } else if name.tag == tag::context_constructed(1) {
            Ok(PointName::Relative(name.value.to_vec()))
        } else {
            Err("a distribution point has a name of an unknown form")
        }
    }

    /// How many names it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            PointName::Full(names) => names.len(),
            PointName::Relative(_) => 1,
        }
    }

    /// As full names, below one of these issuers where it is relative.
    pub(crate) fn full(&self, issuers: &[&[u8]]) -> Vec<GeneralName> {
        match self {
            PointName::Full(names) => names.clone(),
            PointName::Relative(relative) => issuers
                .iter()
                .filter_map(|issuer| canonical_below(issuer, relative).ok())
                .map(GeneralName::directory)
                .collect(),
        }
    }
}

/// Reasons for revocation as bits (RFC 5280 section 4.2.1.13), without the first, which is unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reasons(pub(crate) u16);

impl Reasons {
    pub(crate) const NONE: Reasons = Reasons(0);
    pub(crate) const ALL: Reasons = Reasons(0x7f80);

    /// `ReasonFlags`: a BIT STRING's contents.
    pub(crate) fn read(value: &[u8]) -> Result<Reasons, Problem> {
        let (unused, octets) = der::bit_string(value)?;
        let bits = match octets {
            [] => 0,
            [first] => u16::from(first & (0xff << unused)) << 8,
            [first, second] => u16::from(*first) << 8 | u16::from(second & (0xff << unused)),
            _ => return Err("it has more reasons than are defined"),
        };
        Ok(Reasons(bits & Reasons::ALL.0))
    }

    pub(crate) fn and(self, other: Reasons) -> Reasons {
        Reasons(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Reasons) -> Reasons {
        Reasons(self.0 | other.0)
    }

    /// Whether all of these are in the other.
    pub(crate) fn within(self, other: Reasons) -> bool {
        self.0 & !other.0 == 0
    }
}

/// One distribution point of a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) name: Option<PointName>,
    pub(crate) reasons: Reasons,
    pub(crate) issuers: Option<Vec<GeneralName>>,
}

impl Point {
    /// What RFC 5280 section 6.3.3 assumes beside those that are named: the issuer's own list, for all reasons.
    pub(crate) fn implied() -> Point {
        Point { name: None, reasons: Reasons::ALL, issuers: None }
    }

    /// How many names it has, of itself and of those who sign its lists.
    pub(crate) fn names(&self) -> usize {
        self.name.as_ref().map_or(0, PointName::len) + self.issuers.as_ref().map_or(1, Vec::len)
    }

    /// The canonical names of those who sign its lists: those that it names, else the certificate's issuer.
    pub(crate) fn crl_issuers<'a>(&'a self, issuer: &'a [u8]) -> Vec<&'a [u8]> {
        match &self.issuers {
            Some(names) => names.iter().filter_map(GeneralName::as_directory).collect(),
            None => vec![issuer],
        }
    }

    pub(crate) fn uris(&self) -> Vec<String> {
        match &self.name {
            Some(PointName::Full(names)) => names.iter().filter_map(GeneralName::as_uri).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

/// The distribution points of a certificate, none if it has no such extension.
pub(crate) fn distribution_points(parts: &Parts<'_>) -> Result<Vec<Point>, Problem> {
    let Some(extension) = parts.extension(CRL_DISTRIBUTION_POINTS) else {
        return Ok(Vec::new());
    };
    let mut reader = der::only(extension, tag::SEQUENCE)?.open();
    let mut points = Vec::new();
    while !reader.is_empty() {
        if points.len() == MOST {
            return Err("it has too many distribution points");
        }
        let mut point = reader.expect(tag::SEQUENCE)?.open();
        let name = point.optional(tag::context_constructed(0))?.map(|e| PointName::read(&e)).transpose()?;
        let reasons = point.optional(tag::context(1))?.map_or(Ok(Reasons::ALL), |e| Reasons::read(e.value))?;
        let issuers = point.optional(tag::context_constructed(2))?.map(|e| GeneralName::read_all(&e)).transpose()?;
        point.finish()?;
        points.push(Point { name, reasons, issuers });
    }
    Ok(points)
}

/// What authority information access names.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) ocsp: Vec<String>,
    pub(crate) issuers: Vec<String>,
}

/// Authority information access; what is malformed of it is passed over, since nothing but a download depends on it.
pub(crate) fn information_access(parts: &Parts<'_>) -> Access {
    let mut access = Access::default();
    let Some(list) = parts.extension(AUTHORITY_INFORMATION_ACCESS).and_then(|e| der::only(e, tag::SEQUENCE).ok())
    else {
        return access;
    };
    let mut reader = list.open();
    for _ in 0..MOST {
        let Ok(mut description) = reader.expect(tag::SEQUENCE).map(|element| element.open()) else {
            break;
        };
        let (Ok(method), Ok(location)) = (description.expect(tag::OID), description.next()) else {
            break;
        };
        let Some(uri) = GeneralName::read(&location).ok().and_then(|name| name.as_uri().map(str::to_owned)) else {
            continue;
        };
        match method.value {
            OCSP => access.ocsp.push(uri),
            CA_ISSUERS => access.issuers.push(uri),
            _ => {}
        }
    }
    access
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bits() {
        assert_eq!(Reasons::read(&[0]), Ok(Reasons::NONE));
        assert_eq!(Reasons::read(&[5, 0x60]).unwrap().0, 0x6000);
        assert_eq!(Reasons::read(&[7, 0xff, 0x80]), Ok(Reasons::ALL), "the first bit is unused");
        assert!(Reasons::read(&[0, 0, 0, 0]).is_err());
        assert!(Reasons(0x6000).within(Reasons::ALL) && !Reasons::ALL.within(Reasons(0x6000)));
    }
}
