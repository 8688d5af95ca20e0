//! The attributes and object classes this directory uses: names, numbers and matching rules, as far as a client can
//! see them. One table serves filters, attribute selections and the subschema entry.

use certdir_directory::Address;
use unicode_normalization::UnicodeNormalization;

use crate::dn::Dn;

/// An attribute type that entries here may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Attribute {
    ObjectClass,
    Name,
    Cn,
    Sn,
    O,
    Dc,
    Uid,
    Mail,
    UserCertificate,
    CaCertificate,
    EntryDn,
    EntryUuid,
    EntryCsn,
    ContextCsn,
    ModifyTimestamp,
    StructuralObjectClass,
    SubschemaSubentry,
    NamingContexts,
    SupportedExtension,
    SupportedFeatures,
    SupportedLdapVersion,
    VendorName,
    VendorVersion,
    Types,
    Classes,
}

/// How values of an attribute are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Text without regard to case; the flag says whether order and substrings are defined, too.
    Text { ordered: bool, substrings: bool },
    /// An e-mail address: text, but equal when it is the same mailbox however it is quoted.
    Mailbox,
    /// The name or number of an object class.
    Class,
    /// A distinguished name.
    Dn,
    /// Nothing is compared; only presence can be asked for.
    None,
}

/// What is known about an attribute type.
pub(crate) struct Definition {
    pub(crate) attribute: Attribute,
    /// The first is the one that answers use.
    names: &'static [&'static str],
    oid: &'static str,
    /// The name under which values are sent, when it is not the first name.
    transfer: Option<&'static str>,
    rule: Rule,
    pub(crate) operational: bool,
    /// The rest of its description for the subschema entry (RFC 4512 section 4.1.2).
    rest: &'static str,
}

/// The standards give names, uid and mail no ORDERING rule, which makes `>=` Undefined for them; here, as with other
/// servers in use, text is ordered by caseIgnoreOrderingMatch (RFC 4517 section 4.2.12).
const TEXT: Rule = Rule::Text { ordered: true, substrings: true };
const EXACT: Rule = Rule::Text { ordered: false, substrings: false };
const ORDERED: Rule = Rule::Text { ordered: true, substrings: false };

impl Definition {
    const fn user(
        attribute: Attribute,
        names: &'static [&'static str],
        oid: &'static str,
        rule: Rule,
        rest: &'static str,
    ) -> Definition {
        Definition { attribute, names, oid, transfer: None, rule, operational: false, rest }
    }

    const fn operational(
        attribute: Attribute,
        names: &'static [&'static str],
        oid: &'static str,
        rule: Rule,
        rest: &'static str,
    ) -> Definition {
        Definition { attribute, names, oid, transfer: None, rule, operational: true, rest }
    }

    /// RFC 4522 section 5 and RFC 4523 section 2.1: values of the certificate syntax always go with `;binary`,
    /// whether or not the request said so.
    const fn certificate(
        attribute: Attribute,
        names: &'static [&'static str],
        oid: &'static str,
        transfer: &'static str,
    ) -> Definition {
        let rest = "EQUALITY certificateExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.8";
        Definition { attribute, names, oid, transfer: Some(transfer), rule: Rule::None, operational: false, rest }
    }
}

/// Every attribute type, in the order of [`Attribute`], which is also the order in which an entry shows them.
/// RFC 4512, 4519, 4523 (certificates), 4524 (mail), 4530 (entryUUID), 5020 (entryDN), 3045 (vendor).
pub(crate) static DEFINITIONS: [Definition; 25] = [
    Definition::user(
        Attribute::ObjectClass,
        &["objectClass"],
        "2.5.4.0",
        Rule::Class,
        "EQUALITY objectIdentifierMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.38",
    ),
    Definition::user(
        Attribute::Name,
        &["name"],
        "2.5.4.41",
        TEXT,
        "EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15",
    ),
    Definition::user(Attribute::Cn, &["cn", "commonName"], "2.5.4.3", TEXT, "SUP name"),
    Definition::user(Attribute::Sn, &["sn", "surname"], "2.5.4.4", TEXT, "SUP name"),
    Definition::user(Attribute::O, &["o", "organizationName"], "2.5.4.10", TEXT, "SUP name"),
    Definition::user(
        Attribute::Dc,
        &["dc", "domainComponent"],
        "0.9.2342.19200300.100.1.25",
        TEXT,
        "EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE",
    ),
    Definition::user(
        Attribute::Uid,
        &["uid", "userid"],
        "0.9.2342.19200300.100.1.1",
        TEXT,
        "EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15",
    ),
    Definition::user(
        Attribute::Mail,
        &["mail", "rfc822Mailbox"],
        "0.9.2342.19200300.100.1.3",
        Rule::Mailbox,
        "EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26{256}",
    ),
    Definition::certificate(Attribute::UserCertificate, &["userCertificate"], "2.5.4.36", "userCertificate;binary"),
    Definition::certificate(Attribute::CaCertificate, &["cACertificate"], "2.5.4.37", "cACertificate;binary"),
    Definition::operational(
        Attribute::EntryDn,
        &["entryDN"],
        "1.3.6.1.1.20",
        Rule::Dn,
        "EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation",
    ),
    Definition::operational(
        Attribute::EntryUuid,
        &["entryUUID"],
        "1.3.6.1.1.16.4",
        ORDERED,
        "EQUALITY uuidMatch ORDERING uuidOrderingMatch SYNTAX 1.3.6.1.1.16.1 SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation",
    ),
    Definition::operational(
        Attribute::EntryCsn,
        &["entryCSN"],
        "1.3.6.1.4.1.4203.666.1.7",
        ORDERED,
        "EQUALITY CSNMatch ORDERING CSNOrderingMatch SYNTAX 1.3.6.1.4.1.4203.666.11.2.1{64} SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation",
    ),
    Definition::operational(
        Attribute::ContextCsn,
        &["contextCSN"],
        "1.3.6.1.4.1.4203.666.1.25",
        ORDERED,
        "EQUALITY CSNMatch ORDERING CSNOrderingMatch SYNTAX 1.3.6.1.4.1.4203.666.11.2.1{64} NO-USER-MODIFICATION USAGE dSAOperation",
    ),
    Definition::operational(
        Attribute::ModifyTimestamp,
        &["modifyTimestamp"],
        "2.5.18.2",
        ORDERED,
        "EQUALITY generalizedTimeMatch ORDERING generalizedTimeOrderingMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.24 SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation",
    ),
    Definition::operational(
        Attribute::StructuralObjectClass,
        &["structuralObjectClass"],
        "2.5.21.9",
        Rule::Class,
        "EQUALITY objectIdentifierMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation",
    ),
    Definition::operational(
        Attribute::SubschemaSubentry,
        &["subschemaSubentry"],
        "2.5.18.10",
        Rule::Dn,
        "EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation",
    ),
    Definition::operational(
        Attribute::NamingContexts,
        &["namingContexts"],
        "1.3.6.1.4.1.1466.101.120.5",
        Rule::None,
        "SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 USAGE dSAOperation",
    ),
    Definition::operational(
        Attribute::SupportedExtension,
        &["supportedExtension"],
        "1.3.6.1.4.1.1466.101.120.7",
        Rule::None,
        "SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 USAGE dSAOperation",
    ),
    Definition::operational(
        Attribute::SupportedFeatures,
        &["supportedFeatures"],
        "1.3.6.1.4.1.4203.1.3.5",
        EXACT,
        "EQUALITY objectIdentifierMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 USAGE dSAOperation",
    ),
    Definition::operational(
        Attribute::SupportedLdapVersion,
        &["supportedLDAPVersion"],
        "1.3.6.1.4.1.1466.101.120.15",
        Rule::None,
        "SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 USAGE dSAOperation",
    ),
    Definition::operational(
        Attribute::VendorName,
        &["vendorName"],
        "1.3.6.1.1.4",
        EXACT,
        "EQUALITY caseExactIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE NO-USER-MODIFICATION USAGE dSAOperation",
    ),
    Definition::operational(
        Attribute::VendorVersion,
        &["vendorVersion"],
        "1.3.6.1.1.5",
        EXACT,
        "EQUALITY caseExactIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE NO-USER-MODIFICATION USAGE dSAOperation",
    ),
    Definition::operational(
        Attribute::Types,
        &["attributeTypes"],
        "2.5.21.5",
        Rule::None,
        "EQUALITY objectIdentifierFirstComponentMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.3 USAGE directoryOperation",
    ),
    Definition::operational(
        Attribute::Classes,
        &["objectClasses"],
        "2.5.21.6",
        Rule::None,
        "EQUALITY objectIdentifierFirstComponentMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.37 USAGE directoryOperation",
    ),
];

/// Object classes: number, name, and the rest of the description (RFC 4512 section 4.1.1), with only the attributes
/// that entries here have.
const CLASSES: [(&str, &str, &str); 10] = [
    ("2.5.6.0", "top", "ABSTRACT MUST objectClass"),
    ("2.5.6.6", "person", "SUP top STRUCTURAL MUST ( sn $ cn )"),
    ("2.5.6.7", "organizationalPerson", "SUP person STRUCTURAL"),
    (
        "2.16.840.1.113730.3.2.2",
        "inetOrgPerson",
        "SUP organizationalPerson STRUCTURAL MAY ( mail $ o $ uid $ userCertificate )",
    ),
    ("2.5.6.21", "pkiUser", "SUP top AUXILIARY MAY userCertificate"),
    ("2.5.6.4", "organization", "SUP top STRUCTURAL MUST o"),
    ("1.3.6.1.4.1.1466.344", "dcObject", "SUP top AUXILIARY MUST dc"),
    ("2.5.6.22", "pkiCA", "SUP top AUXILIARY MAY cACertificate"),
    ("2.5.17.0", "subentry", "SUP top STRUCTURAL MUST cn"),
    ("2.5.20.1", "subschema", "AUXILIARY MAY ( attributeTypes $ objectClasses )"),
];

impl Attribute {
    /// What is known about it.
    #[expect(clippy::indexing_slicing, reason = "the table has an element for every Attribute; a test compares them")]
    fn definition(self) -> &'static Definition {
        &DEFINITIONS[self as usize]
    }

    /// The attribute type that a description names (RFC 4512 section 2.5), by any of its names or its number. `None`
    /// for those unknown here and for options other than a certificate's `;binary`: no value here has one.
    pub(crate) fn parse(description: &[u8]) -> Option<Attribute> {
        let text = std::str::from_utf8(description).ok()?;
        let (name, options) = text.split_once(';').unwrap_or((text, ""));
        let definition = DEFINITIONS
            .iter()
            .find(|d| d.oid == name || d.names.iter().any(|known| known.eq_ignore_ascii_case(name)))?;
        let known = options.is_empty() || (definition.transfer.is_some() && options.eq_ignore_ascii_case("binary"));
        (known && !text.ends_with(';')).then_some(definition.attribute)
    }

    /// The name under which its values are sent.
    pub(crate) fn transfer_name(self) -> &'static str {
        let definition = self.definition();
        definition.transfer.or(definition.names.first().copied()).unwrap_or_default()
    }

    /// How its values are compared.
    pub(crate) fn rule(self) -> Rule {
        self.definition().rule
    }

    /// The types whose values also are values of this one: itself, or the subtypes of `name` (RFC 4512 section 2.5.1).
    pub(crate) fn with_subtypes(self) -> &'static [Attribute] {
        match self {
            Attribute::Name => &[Attribute::Cn, Attribute::Sn, Attribute::O],
            _ => std::slice::from_ref(&self.definition().attribute),
        }
    }
}

impl Rule {
    /// The form in which two values are equal exactly when they match, or `None` when the octets are no value, or no
    /// equality is defined: both make an assertion Undefined (RFC 4511 section 4.5.1.7).
    pub(crate) fn key(self, value: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(value).ok()?;
        match self {
            Rule::Text { .. } => Some(prepare(text)),
            Rule::Mailbox => Some(match Address::parse(text.trim()) {
                Ok(address) => address.lower_case().to_string(),
                Err(_) => prepare(text),
            }),
            Rule::Class => CLASSES
                .iter()
                .find(|(oid, name, _)| *oid == text || name.eq_ignore_ascii_case(text))
                .map(|(_, name, _)| (*name).to_owned()),
            Rule::Dn => Dn::parse(value).map(|dn| dn.key()),
            Rule::None => None,
        }
    }

    pub(crate) fn has_order(self) -> bool {
        matches!(self, Rule::Text { ordered: true, .. } | Rule::Mailbox)
    }

    pub(crate) fn has_substrings(self) -> bool {
        matches!(self, Rule::Text { substrings: true, .. } | Rule::Mailbox)
    }

    /// Whether a matching rule named in an extensible filter is the one by which these values are equal anyway.
    pub(crate) fn is_named(self, rule: &[u8]) -> bool {
        let names: &[&str] = match self {
            Rule::Text { .. } => &["caseIgnoreMatch", "2.5.13.2"],
            Rule::Mailbox => &["caseIgnoreIA5Match", "1.3.6.1.4.1.1466.109.114.2"],
            Rule::Class => &["objectIdentifierMatch", "2.5.13.0"],
            Rule::Dn => &["distinguishedNameMatch", "2.5.13.1"],
            Rule::None => &[],
        };
        names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(rule))
    }
}

/// Text prepared for comparison, after RFC 4518: compatibility normal form, without case, runs of space as one.
pub(crate) fn prepare(text: &str) -> String {
    prepare_part(text).trim().to_owned()
}

/// The same for a part of a value, where space at the ends counts (RFC 4518 section 2.6.1).
pub(crate) fn prepare_part(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if text.is_ascii() {
        text.chars().for_each(|c| push(&mut out, c.to_ascii_lowercase()));
    } else {
        text.nfkc().flat_map(char::to_lowercase).nfkc().for_each(|c| push(&mut out, c));
    }
    return out;

    fn push(out: &mut String, c: char) {
        match c {
            c if c.is_whitespace() && out.ends_with(' ') => {}
            c if c.is_whitespace() => out.push(' '),
            c => out.push(c),
        }
    }
}

/// The values of `attributeTypes` (RFC 4512 section 4.2.2).
pub(crate) fn attribute_types() -> impl Iterator<Item = String> {
    DEFINITIONS.iter().map(|d| match d.names {
        [name] => format!("( {} NAME '{name}' {} )", d.oid, d.rest),
        names => format!("( {} NAME ( '{}' ) {} )", d.oid, names.join("' '"), d.rest),
    })
}

/// The values of `objectClasses` (RFC 4512 section 4.2.1).
pub(crate) fn object_classes() -> impl Iterator<Item = String> {
    CLASSES.iter().map(|(oid, name, rest)| format!("( {oid} NAME '{name}' {rest} )"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_attributes() {
        for (index, definition) in DEFINITIONS.iter().enumerate() {
            assert_eq!(definition.attribute as usize, index, "{:?}", definition.attribute);
        }
        assert_eq!(Attribute::Classes as usize + 1, DEFINITIONS.len());
        assert!(DEFINITIONS.len() <= 32, "a selection is a set of 32 bits");
    }

    #[test]
    fn attributes_are_found_by_name_number_and_with_binary() {
        for (description, want) in [
            ("mail", Some(Attribute::Mail)),
            ("MAIL", Some(Attribute::Mail)),
            ("rfc822mailbox", Some(Attribute::Mail)),
            ("0.9.2342.19200300.100.1.3", Some(Attribute::Mail)),
            ("usercertificate;binary", Some(Attribute::UserCertificate)),
            ("UserCertificate;BINARY", Some(Attribute::UserCertificate)),
            ("userCertificate", Some(Attribute::UserCertificate)),
            ("2.5.4.36;binary", Some(Attribute::UserCertificate)),
            ("userCertificate;", None),
            ("userCertificate;binary;lang-de", None),
            ("mail;binary", None),
            ("cn;lang-en", None),
            ("givenName", None),
            ("", None),
        ] {
            assert_eq!(Attribute::parse(description.as_bytes()), want, "{description}");
        }
        assert_eq!(Attribute::parse(&[0xff]), None);
    }

    #[test]
    fn text_is_prepared_as_rfc_4518_says() {
        for (text, want) in [
            ("  Alice   Example ", "alice example"),
            ("MÜLLER", "müller"),
            ("Mu\u{308}ller", "müller"),
            ("ﬁsh", "fish"),
            ("", ""),
        ] {
            assert_eq!(prepare(text), want);
        }
        assert_eq!(prepare_part(" Ex "), " ex ");
    }
}
