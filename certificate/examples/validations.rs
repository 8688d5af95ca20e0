//! Path validations with revocation lists a second, over the files that `bench/paths.sh` makes.
//!
//! `validations FOLDER SECONDS`: `FOLDER` holds `root.pem`, `between.pem`, `leaf.pem`, `root.crl`, `between.crl` (DER).

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certdir_certificate::{Anchors, Certificate, Crl, Evidence, Memory, Pool, Requirements, RevocationMode, validate};

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?;
    let time = Duration::from_secs(arguments.next().map_or(Ok(2), |text| text.parse())?);
    let read = |name: &str| std::fs::read(Path::new(&folder).join(name));
    let certificate = |name: &str| -> Result<Certificate, Box<dyn Error>> {
        Ok(Certificate::read_all(&read(name)?)?.into_iter().next().ok_or("no certificate")?)
    };
    let leaf = certificate("leaf.pem")?;
    let anchors = Anchors::read(&read("root.pem")?)?;
    let mut pool = Pool::new();
    pool.add(&certificate("between.pem")?)?;
    let mut evidence = Evidence::new();
    let (mut entries, started) = (0, Instant::now());
    for name in ["root.crl", "between.crl"] {
        let list = Arc::new(Crl::read(&read(name)?)?);
        entries += list.len();
        evidence.add_crl(list);
    }
    println!("both lists, {entries} entries: read in {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
    let (off, hard) = (RevocationMode::Off, RevocationMode::Hard);
    for (what, revocation, remembered) in [
        ("cached signatures, with lists", hard, 10_000),
        ("no cached signature, with lists", hard, 0),
        ("no cached signature, without lists", off, 0),
    ] {
        let memory = Memory::new(remembered);
        let requirements = Requirements { revocation, ..Requirements::at(leaf.not_before() + 3_600) };
        validate(&leaf, &anchors, &pool, &evidence, &requirements, &memory)?;
        let (mut done, started) = (0u32, Instant::now());
        while started.elapsed() < time {
            for _ in 0..20 {
                validate(&leaf, &anchors, &pool, &evidence, &requirements, &memory)?;
            }
            done += 20;
        }
        println!("{what}: {:.0} a second", f64::from(done) / started.elapsed().as_secs_f64());
    }
    Ok(())
}
