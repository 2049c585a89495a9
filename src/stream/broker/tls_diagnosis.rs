//! Explains why a broker's certificate is not trusted.
//!
//! librdkafka reports only that it is not. The TLS library of our HTTP client reports the reason,
//! so this module connects to the broker again with that client.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder};

/// Time limit of the request. The broker answered a moment ago.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the fault of the certificate of the broker at `address` (`host:port`) and its remedy, or
/// `None` if the cause cannot be determined. Blocks.
pub(crate) fn explain_distrust(
    address: &str,
    properties: &BTreeMap<String, String>,
) -> Option<String> {
    let builder = Client::builder().no_proxy().redirect(Policy::none()).timeout(REQUEST_TIMEOUT);
    let client = with_trusted_authorities(builder, properties)?.build().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let request = client.get(format!("https://{address}/")).send();
    // Any HTTP response means that the certificate was accepted.
    let error = runtime.block_on(request).err()?;
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    explain_tls_error(&cause.to_string())
}

/// Trusts the authorities that the properties name, or those of the system if they name none.
fn with_trusted_authorities(
    builder: ClientBuilder,
    properties: &BTreeMap<String, String>,
) -> Option<ClientBuilder> {
    let pem = match (properties.get("ssl.ca.pem"), properties.get("ssl.ca.location")) {
        (Some(pem), _) => pem.clone().into_bytes(),
        (None, Some(path)) if path != "probe" => std::fs::read(path).ok()?,
        _ => return Some(builder),
    };
    Some(builder.tls_certs_only(Certificate::from_pem_bundle(&pem).ok()?))
}

fn explain_tls_error(error: &str) -> Option<String> {
    let (_, fault) = error.split_once("invalid peer certificate: ")?;
    Some(if fault.contains("expired") {
        "it has expired; renew it at the broker, or set this machine's clock".to_owned()
    } else if fault.contains("UnknownIssuer") {
        "it is signed by an authority that is not trusted here; name the right one in \
         ssl.ca.location of kafka.properties"
            .to_owned()
    } else if fault.contains("not valid for name") {
        format!("{fault}; correct the host name in kafka.bootstrap_servers")
    } else {
        format!("{fault}; renew it at the broker")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_fault_is_explained_with_its_remedy_and_any_other_error_is_not() {
        let explain = |text: &str| explain_tls_error(&format!("invalid peer certificate: {text}"));
        assert!(explain("certificate expired: verification time 2").unwrap().contains("renew it"));
        assert!(explain("UnknownIssuer").unwrap().contains("ssl.ca.location"));
        let name = "certificate not valid for name \"b\"; certificate is only valid for \"a\"";
        assert!(explain(name).unwrap().contains("kafka.bootstrap_servers"));
        assert!(explain("BadEncoding").unwrap().starts_with("BadEncoding"));
        assert_eq!(explain_tls_error("received fatal alert: CertificateRequired"), None);
    }
}
