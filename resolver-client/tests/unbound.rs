//! Unbound in front of the test zones: a recursive server that validates or not, and speaks DNS over TLS too.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::servers::{Server, answers, free_port, stop};

/// It serves for as long as this value lives.
pub(crate) struct Unbound {
    process: Child,
    pub(crate) address: SocketAddr,
    /// DNS over TLS, as `localhost`.
    pub(crate) tls: SocketAddr,
    /// SHA-256 of the certificate of the server, and the certificate in PEM.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) pem: String,
    _dir: tempfile::TempDir,
}

impl Unbound {
    /// Starts one that finds `zones` at `upstream`, and trusts the key of `example.` when it validates.
    pub(crate) fn start(upstream: &Server, zones: &[&str], validating: bool) -> Unbound {
        let dir = tempfile::TempDir::new().unwrap();
        let at = dir.path().display();
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let pem = own.cert.pem();
        fs::write(dir.path().join("tls.pem"), &pem).unwrap();
        fs::write(dir.path().join("tls.key"), own.signing_key.serialize_pem()).unwrap();
        let fingerprint = *certdir_resolver::Certificate::from_der(own.cert.der()).unwrap().sha256();
        let (module, anchor) = match validating {
            true => ("validator iterator", format!("trust-anchor-file: {}\n", upstream.anchor("example.").display())),
            false => ("iterator", String::new()),
        };
        // Another process may take a port between the choice and its use.
        for _ in 0..5 {
            let (address, tls) = (free_port(), free_port());
            if address == tls {
                continue;
            }
            let (ip, port, tls_port) = (address.ip(), address.port(), tls.port());
            let mut conf = format!(
                "server:\n  interface: {ip}@{port}\n  interface: {ip}@{tls_port}\n  tls-port: {tls_port}\n  tls-service-key: {at}/tls.key\n  tls-service-pem: {at}/tls.pem\n  do-daemonize: no\n  so-reuseport: no\n  username: \"\"\n  chroot: \"\"\n  directory: {at}\n  pidfile: {at}/pid\n  use-syslog: no\n  logfile: {at}/log\n  do-not-query-localhost: no\n  ede: yes\n  module-config: \"{module}\"\n  {anchor}remote-control:\n  control-enable: no\n"
            );
            // The zones' name servers have addresses but no ports.
            for zone in zones {
                let (ip, port) = (upstream.address.ip(), upstream.address.port());
                conf += &format!("stub-zone:\n  name: {zone}\n  stub-addr: {ip}@{port}\n");
            }
            let file = dir.path().join("unbound.conf");
            fs::write(&file, conf).unwrap();
            let mut unbound = Command::new("unbound");
            unbound.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = unbound.spawn().unwrap_or_else(|e| panic!("unbound is needed for this test: {e}"));
            if answers(address, &mut process) {
                return Unbound { process, address, tls, fingerprint, pem, _dir: dir };
            }
            stop(&mut process);
        }
        panic!("unbound does not start: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default());
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}
