//! Server cookies: a source that sends ours back is where it says it is (RFC 7873, RFC 9018).
//!
//! A cookie is computed, never stored. Its secret is derived from one master secret and the day of its timestamp, so that
//! it rolls over every day by itself, and every server with the same master secret takes the cookies of the others.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use certdir_certificate::UnixTime;
use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24Wide};

/// Octets of a client cookie (RFC 7873 section 4.1).
const CLIENT: usize = 8;
/// Octets of our server cookie (RFC 9018 section 4).
const SERVER: usize = 16;
/// Octets of a COOKIE option with both.
pub(crate) const COOKIE: usize = CLIENT + SERVER;
/// Octets of a secret (RFC 9018 section 4.4).
const SECRET: usize = 16;
/// Version of the layout (RFC 9018 section 4.1).
const VERSION: u8 = 1;
/// Seconds for which a cookie is good (RFC 9018 section 4.3).
const LIFE: u32 = 3_600;
/// Seconds by which a cookie may come from the future: another server's clock (RFC 9018 section 4.3).
const AHEAD: u32 = 300;
/// Age in seconds from which a good cookie is replaced (RFC 9018 section 4.3).
const RENEW: u32 = 1_800;
/// Seconds for which one derived secret makes cookies.
const DAY: u32 = 86_400;

/// The master secret of a server's cookies. Servers that answer under one address share it.
#[derive(Clone)]
pub struct CookieSecret([u8; SECRET]);

impl CookieSecret {
    /// From 16 random octets.
    pub fn new(octets: [u8; 16]) -> CookieSecret {
        CookieSecret(octets)
    }

    /// The secret of the cookies with this timestamp.
    fn of(&self, timestamp: u32) -> [u8; SECRET] {
        let mut hasher = SipHasher24Wide::new_with_key(&self.0);
        hasher.write(&(timestamp / DAY).to_be_bytes());
        hasher.finish128().as_bytes()
    }

    /// What a COOKIE option of a request says, and the one to answer with. `option` has a length that RFC 7873 section 4
    /// allows.
    pub(crate) fn check(&self, option: &[u8], source: IpAddr, now: UnixTime) -> (CookieState, [u8; COOKIE]) {
        // RFC 9018 section 4.3: the time modulo 2^32.
        let now = now as u32;
        let client = option.first_chunk().copied().unwrap_or_default();
        let state = match option.get(CLIENT..) {
            None | Some([]) => CookieState::ClientOnly,
            Some(server) if self.made(client, server, source, now) => CookieState::Valid,
            Some(_) => CookieState::Invalid,
        };
        if state == CookieState::Valid
            && let Some(&same) = option.first_chunk::<COOKIE>()
            && now.wrapping_sub(timestamp(&same)) < RENEW
        {
            return (state, same);
        }
        (state, server_cookie(&self.of(now), client, now, source))
    }

    /// Whether we made this server cookie for this client not long ago.
    fn made(&self, client: [u8; CLIENT], server: &[u8], source: IpAddr, now: u32) -> bool {
        let Some((&[VERSION, reserved0, reserved1, reserved2, time0, time1, time2, time3], hash)) =
            server.split_first_chunk()
        else {
            return false;
        };
        let made_at = u32::from_be_bytes([time0, time1, time2, time3]);
        // Serial number arithmetic: within LIFE before now and AHEAD behind it.
        if now.wrapping_add(AHEAD).wrapping_sub(made_at) > LIFE + AHEAD {
            return false;
        }
        let head = [VERSION, reserved0, reserved1, reserved2, time0, time1, time2, time3];
        // The time a comparison takes tells nothing of use: a forger would have to see the answers to measure it.
        hash == cookie_hash(&self.of(made_at), client, head, source)
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(..)")
    }
}

/// What a request says about the source it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieState {
    /// No cookie, or none is looked at here.
    #[default]
    None,
    /// A client cookie: the source may be forged.
    ClientOnly,
    /// A server cookie of ours: the source receives what is sent there.
    Valid,
    /// A server cookie that is not ours, too old, or made for another source.
    Invalid,
}

fn timestamp(cookie: &[u8; COOKIE]) -> u32 {
    cookie.get(CLIENT + 4..).and_then(|rest| rest.first_chunk()).map_or(0, |&octets| u32::from_be_bytes(octets))
}

/// Client and server cookie (RFC 9018 section 4).
fn server_cookie(secret: &[u8; SECRET], client: [u8; CLIENT], now: u32, source: IpAddr) -> [u8; COOKIE] {
    let [time0, time1, time2, time3] = now.to_be_bytes();
    let head = [VERSION, 0, 0, 0, time0, time1, time2, time3];
    let mut cookie = [0; COOKIE];
    let hash = cookie_hash(secret, client, head, source);
    for (place, octet) in cookie.iter_mut().zip(client.into_iter().chain(head).chain(hash)) {
        *place = octet;
    }
    cookie
}

/// The hash of a server cookie (RFC 9018 section 4.4); `head` is what stands before it.
fn cookie_hash(secret: &[u8; SECRET], client: [u8; CLIENT], head: [u8; 8], source: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&client);
    hasher.write(&head);
    match source {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether the hash in a cookie is the one of this secret.
    fn made_with(secret: &str, cookie: &str, source: &str) -> bool {
        let cookie = octets::<COOKIE>(cookie);
        let (client, head, hash) = (&cookie[..8], &cookie[8..16], &cookie[16..]);
        cookie_hash(&octets(secret), client.try_into().unwrap(), head.try_into().unwrap(), ip(source)) == hash
    }

    fn make(secret: &str, client: &str, now: u32, source: &str) -> [u8; COOKIE] {
        server_cookie(&octets(secret), octets(client), now, ip(source))
    }

    const SECRET_1: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    #[test]
    fn rfc9018_a_1_learning_a_new_server_cookie() {
        let cookie = make(SECRET_1, "2464c4abcf10c957", 1_559_731_985, "198.51.100.100");
        assert_eq!(cookie, octets("2464c4abcf10c957010000005cf79f111f8130c3eee29480"));
    }

    #[test]
    fn rfc9018_a_2_the_same_client_learning_a_renewed_server_cookie() {
        assert!(made_with(SECRET_1, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "198.51.100.100"));
        let cookie = make(SECRET_1, "2464c4abcf10c957", 1_559_734_385, "198.51.100.100");
        assert_eq!(cookie, octets("2464c4abcf10c957010000005cf7a871d4a564a1442aca77"));
    }

    #[test]
    fn rfc9018_a_3_another_client_learning_a_renewed_server_cookie() {
        // The reserved octets are not zero: they are part of what is hashed.
        assert!(made_with(SECRET_1, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "203.0.113.203"));
        let cookie = make(SECRET_1, "fc93fc62807ddb86", 1_559_734_700, "203.0.113.203");
        assert_eq!(cookie, octets("fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"));
    }

    #[test]
    fn rfc9018_a_4_ipv6_query_with_rolled_over_secret() {
        let (old, new) = ("dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962");
        let (source, cookie) =
            ("2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8");
        assert!(made_with(old, cookie, source));
        assert!(!made_with(new, cookie, source));
        let cookie = make(new, "22681ab97d52c298", 1_559_741_961, source);
        assert_eq!(cookie, octets("22681ab97d52c298010000005cf7c609a6bb79d16625507a"));
    }

    const CLIENT_1: [u8; CLIENT] = *b"client 1";

    fn learn(secret: &CookieSecret, now: UnixTime) -> [u8; COOKIE] {
        let (state, cookie) = secret.check(&CLIENT_1, ip("192.0.2.1"), now);
        assert_eq!(state, CookieState::ClientOnly);
        cookie
    }

    #[test]
    fn rfc9018_4_3_a_cookie_is_good_for_an_hour_and_renewed_after_half() {
        let secret = CookieSecret::new([7; SECRET]);
        // Midnight: the derived secret rolls over. And the end of the 32-bit count.
        for start in [1_700_006_400 - 1_000, (1 << 32) - 1_000] {
            let cookie = learn(&secret, start);
            for (seconds, state, renewed) in [
                (0, CookieState::Valid, false),
                (1_799, CookieState::Valid, false),
                (1_800, CookieState::Valid, true),
                (3_600, CookieState::Valid, true),
                (3_601, CookieState::Invalid, true),
                // Ours, made by a clock that is ahead: good, and replaced by one of this clock.
                (-300, CookieState::Valid, true),
                (-301, CookieState::Invalid, true),
            ] {
                let (found, answer) = secret.check(&cookie, ip("192.0.2.1"), start + seconds);
                assert_eq!((found, answer != cookie), (state, renewed), "{seconds}");
                assert_eq!(answer[..CLIENT], CLIENT_1);
                assert_eq!(secret.check(&answer, ip("192.0.2.1"), start + seconds).0, CookieState::Valid);
            }
        }
    }

    #[test]
    fn rfc7873_5_2_4_a_cookie_of_another_server_source_client_or_form_is_invalid() {
        let now = 1_700_000_000;
        let secret = CookieSecret::new([7; SECRET]);
        let cookie = learn(&secret, now);
        let check = |option: &[u8], source: &str| secret.check(option, ip(source), now).0;
        assert_eq!(check(&cookie, "192.0.2.1"), CookieState::Valid);
        assert_eq!(check(&cookie, "192.0.2.2"), CookieState::Invalid);
        assert_eq!(check(&cookie, "::192.0.2.1"), CookieState::Invalid);
        assert_eq!(check(&learn(&CookieSecret::new([8; SECRET]), now), "192.0.2.1"), CookieState::Invalid);
        for at in 0..COOKIE {
            let mut changed = cookie;
            changed[at] ^= 1;
            assert_eq!(check(&changed, "192.0.2.1"), CookieState::Invalid, "octet {at}");
        }
        assert_eq!(check(&cookie[..16], "192.0.2.1"), CookieState::Invalid);
        assert_eq!(check(&[&cookie[..], &[0]].concat(), "192.0.2.1"), CookieState::Invalid);
        // A second server with the same secret.
        assert_eq!(CookieSecret::new([7; SECRET]).check(&cookie, ip("192.0.2.1"), now).0, CookieState::Valid);
    }
}
