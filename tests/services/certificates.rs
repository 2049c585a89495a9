//! Certificates of two authorities of our own: the one that broker and worker trust, and another.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Writes `ca.pem` and `other-ca.pem`; of the first authority the broker's `server.pem` and
/// `expired.pem`, each with its key, and `client.pem` with `client.key`; `stranger.pem` with
/// `stranger.key` of the other one.
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

/// A certificate for this machine, valid until the end of the year before, and its key.
fn signed(name: &str, year: i32, issuer: &Issuer<'_, KeyPair>) -> (String, String) {
    let places = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut params = CertificateParams::new(places).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}
