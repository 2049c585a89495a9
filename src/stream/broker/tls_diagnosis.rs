//! Why a broker's certificate is not trusted. Librdkafka says only that it is not; the TLS library
//! beneath our HTTP client says why, so the broker is greeted once more with that one.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder};

/// How long the greeting may take; the broker answered a moment ago.
const GREETING: Duration = Duration::from_secs(3);

/// Says what is wrong with the certificate of the broker at `host:port` and what to do, as far as
/// that can be found out. Blocks.
pub(crate) fn explain_distrust(
    place: &str,
    properties: &BTreeMap<String, String>,
) -> Option<String> {
    let start = Client::builder().no_proxy().redirect(Policy::none()).timeout(GREETING);
    let client = with_authorities(start, properties)?.build().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let greeting = client.get(format!("https://{place}/")).send();
    // Who gets through to an answer has no objections to the certificate.
    let error = runtime.block_on(greeting).err()?;
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    judge(&cause.to_string())
}

/// The authorities that the properties name; where they name none, the system's.
fn with_authorities(
    start: ClientBuilder,
    properties: &BTreeMap<String, String>,
) -> Option<ClientBuilder> {
    let pem = match (properties.get("ssl.ca.pem"), properties.get("ssl.ca.location")) {
        (Some(pem), _) => pem.clone().into_bytes(),
        (None, Some(path)) if path != "probe" => std::fs::read(path).ok()?,
        _ => return Some(start),
    };
    Some(start.tls_certs_only(Certificate::from_pem_bundle(&pem).ok()?))
}

fn judge(objection: &str) -> Option<String> {
    let (_, objection) = objection.split_once("invalid peer certificate: ")?;
    Some(if objection.contains("expired") {
        "it has expired; renew it at the broker, or set this machine's clock".to_owned()
    } else if objection.contains("UnknownIssuer") {
        "it is signed by an authority that is not trusted here; name the right one in \
         ssl.ca.location of kafka.properties"
            .to_owned()
    } else if objection.contains("not valid for name") {
        format!("{objection}; correct the host name in kafka.bootstrap_servers")
    } else {
        format!("{objection}; renew it at the broker")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objection_says_what_to_do_and_anything_else_is_none() {
        let judged = |text: &str| judge(&format!("invalid peer certificate: {text}"));
        assert!(judged("certificate expired: verification time 2").unwrap().contains("renew it"));
        assert!(judged("UnknownIssuer").unwrap().contains("ssl.ca.location"));
        let name = "certificate not valid for name \"b\"; certificate is only valid for \"a\"";
        assert!(judged(name).unwrap().contains("kafka.bootstrap_servers"));
        assert!(judged("BadEncoding").unwrap().starts_with("BadEncoding"));
        assert_eq!(judge("received fatal alert: CertificateRequired"), None);
    }
}
