//! Certificates of two test authorities: one that broker and worker trust, and another one.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Writes `ca.pem` and `other-ca.pem`. The first authority signs the broker's `server.pem` and
/// `expired.pem`, each with its key in the same file, and `client.pem` with `client.key`. The other
/// authority signs `stranger.pem` with `stranger.key`.
pub(crate) fn write(folder: &Path) {
    let write = |name: &str, pem: String| fs::write(folder.join(name), pem).unwrap();
    let (own, other) = (authority("the tests' authority"), authority("another authority"));
    write("ca.pem", own.0);
    write("other-ca.pem", other.0);
    for (name, year) in [("server.pem", 2100), ("expired.pem", 2020)] {
        let (certificate, key) = signed(name, year, &own.1);
        write(name, certificate + &key);
    }
    for (name, issuer) in [("client", &own.1), ("stranger", &other.1)] {
        let (certificate, key) = signed(name, 2100, issuer);
        write(&format!("{name}.pem"), certificate);
        write(&format!("{name}.key"), key);
    }
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}

/// Returns a certificate for this machine, valid until 1 January of `year`, and its key.
fn signed(name: &str, year: i32, issuer: &Issuer<'_, KeyPair>) -> (String, String) {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}
