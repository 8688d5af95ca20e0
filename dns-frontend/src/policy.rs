//! What an asker may get: sizes, certificates over UDP, rates, signatures.

use crate::cookie::CookieSecret;
use crate::query_log::QueryLog;

/// The limits of one worker. UDP sources may be forged: one is *verified* by a server cookie it sends back; whoever
/// speaks over a stream is verified by that.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Longest UDP response, in octets (512 to 4,096). 1,232 passes everywhere without fragments (RFC 9715 section 3.1).
    pub udp_payload: u16,
    /// Who gets certificates, and other answers of more than 512 octets, over UDP.
    pub udp_certificates: UdpCertificates,
    /// UDP responses of one kind (positive, denial, error, withheld certificate) that an unverified network, an IPv4
    /// /24 or an IPv6 /56, gets in a second; 0 for no limit.
    pub responses_per_second: u32,
    /// Of the responses above that rate every so many-th goes out, empty and with TC set, so that a real client comes
    /// again over TCP; the others are dropped. 1: none is dropped. 0: all are.
    pub slip: u32,
    /// Denials signed in a second; 0 for no limit. One network gets at most half of them. Above that, UDP gets an empty
    /// response with TC set, and streams are to wait.
    pub signatures_per_second: u32,
    /// Signed denials that are kept to be given out again, of about 370 octets each.
    pub proofs: usize,
    /// The secret of server cookies; without it nobody gets one.
    pub cookies: Option<CookieSecret>,
    /// What is logged of the queries.
    pub query_log: Option<QueryLog>,
}

/// Who gets certificate records (SMIMEA, CERT) over UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpCertificates {
    /// Sources with a valid server cookie. Others get an empty response with TC set (RFC 8162 section 9.1).
    #[default]
    Verified,
    /// Everybody: the server then helps whoever forges sources.
    Always,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            udp_payload: 1232,
            udp_certificates: UdpCertificates::Verified,
            responses_per_second: 200,
            slip: 1,
            signatures_per_second: 10_000,
            proofs: 65_536,
            cookies: None,
            query_log: None,
        }
    }
}
