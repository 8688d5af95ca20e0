//! How many P-256 signatures one core makes a second, with the library certdir signs with, over 200 octets (about what is
//! signed for an NSEC3 record). The argument is how many seconds to try (default 1). Prints the rate.

use std::time::{Duration, Instant};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};

fn main() -> Result<(), ring::error::Unspecified> {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)?;
    let (began, length) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut made = 0_u32;
    while began.elapsed() < length {
        for _ in 0..100 {
            key.sign(&random, &[0x5a; 200])?;
        }
        made += 100;
    }
    println!("{:.0}", f64::from(made) / began.elapsed().as_secs_f64());
    Ok(())
}
