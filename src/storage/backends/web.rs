//! `http:` and `https:` references, read from the web servers that are allowed.
//!
//! The HTTP store of `object_store` is not used. It rebuilds the path, which breaks presigned URLs,
//! requires a `Content-Length`, and follows redirects without a check.

use std::sync::Arc;

use futures::TryStreamExt;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MATCH, LOCATION};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use crate::etag::Etag;
use crate::storage::access::hosts::{GuardedResolver, HostRules, Route};
use crate::storage::backends::body::{self, Content};
use crate::storage::backends::http_client;
use crate::storage::error::{FetchFault, Signer, StorageError, UriFault};
use crate::storage::error_response::{ErrorResponse, SentSecrets};
use crate::storage::limits::Limits;
use crate::storage::settings::Settings;

/// Reads from the web servers that are allowed.
#[derive(Debug, Clone)]
pub(crate) struct WebClient {
    rules: HostRules,
    clients: Option<Clients>,
    redirects_max: u32,
}

#[derive(Debug, Clone)]
struct Clients {
    /// Connects to public addresses only.
    public: Client,
    /// Connects to any address of a host from `allow_private_hosts`.
    private: Client,
}

impl WebClient {
    /// Builds the clients, unless no host is allowed. `resolver` resolves every name.
    pub(crate) fn new(
        settings: &Settings,
        limits: &Limits,
        resolver: &Arc<dyn Resolve>,
    ) -> Result<Self, StorageError> {
        let rules = HostRules::new(settings)?;
        let redirects_max = settings.redirects_max;
        if rules.is_empty() {
            return Ok(Self { rules, clients: None, redirects_max });
        }
        let guarded = Arc::new(GuardedResolver::new(Arc::clone(resolver)));
        // A proxy would resolve names itself and so bypass the guard.
        let builder = || http_client::builder(limits.time).no_proxy();
        let public = http_client::build(
            || builder().dns_resolver(Arc::clone(&guarded)),
            settings.allow_http,
        )?;
        let private = http_client::build(
            || builder().dns_resolver(Arc::clone(resolver)),
            settings.allow_http,
        )?;
        Ok(Self { rules, clients: Some(Clients { public, private }), redirects_max })
    }

    /// Refuses a URL that is not allowed. Sends nothing.
    pub(crate) fn admit(&self, url: &Url) -> Result<(), UriFault> {
        self.rules.admit(url).map(drop)
    }

    /// Reads a resource. Follows redirects whose targets are allowed.
    pub(crate) async fn read(
        &self,
        url: &Url,
        etag: Option<&Etag>,
        limits: &Limits,
    ) -> Result<Content, FetchFault> {
        let if_match = etag.and_then(Etag::if_match);
        let mut url = url.clone();
        for _ in 0..=self.redirects_max {
            let mut request = self.client_for(&url)?.get(url.clone());
            if let Some(tag) = &if_match {
                request = request.header(IF_MATCH, tag);
            }
            let answer = request
                .send()
                .await
                .map_err(|error| http_client::fault_from(&error, limits.time))?;
            match answer.status() {
                StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {
                    return read_body(answer, etag, limits).await;
                }
                status if is_redirect(status) => url = redirect_target(&url, &answer)?,
                _ => return Err(refusal(answer, &url).await),
            }
        }
        Err(FetchFault::TooManyRedirects(self.redirects_max))
    }

    /// Returns every allowed host with its URLs to probe.
    pub(crate) fn hosts(&self) -> Vec<(String, Vec<Url>)> {
        self.rules.urls()
    }

    /// Checks that a host answers at least one of the URLs, with any status.
    pub(crate) async fn probe(&self, urls: &[Url], limits: &Limits) -> Result<(), FetchFault> {
        let mut outcome = Err(FetchFault::Unavailable("it does not form a URL".to_owned()));
        for url in urls {
            let answer = self.client_for(url)?.head(url.clone()).send().await;
            outcome =
                answer.map(drop).map_err(|error| http_client::fault_from(&error, limits.time));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn client_for(&self, url: &Url) -> Result<&Client, UriFault> {
        let route = self.rules.admit(url)?;
        let clients = self.clients.as_ref().expect("a host was admitted, so clients were built");
        Ok(match route {
            Route::Public => &clients.public,
            Route::Private => &clients.private,
        })
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirect_target(url: &Url, answer: &Response) -> Result<Url, FetchFault> {
    let target = header(answer.headers(), &LOCATION).and_then(|target| url.join(&target).ok());
    let Some(mut target) = target else {
        return Err(FetchFault::UnexpectedAnswer(format!(
            "status {} without a usable location",
            answer.status().as_u16()
        )));
    };
    target.set_fragment(None);
    Ok(target)
}

/// Maps a response without the resource. Reads only the beginning of its body.
async fn refusal(answer: Response, url: &Url) -> FetchFault {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = body::error_text(answer.bytes_stream()).await;
    let sent = SentSecrets::of(&HeaderMap::new(), url.query());
    let response = ErrorResponse::read(status, &headers, &text, &sent);
    FetchFault::from_response(&response, Signer::Sender)
}

async fn read_body(
    answer: Response,
    etag: Option<&Etag>,
    limits: &Limits,
) -> Result<Content, FetchFault> {
    let sent_etag = header(answer.headers(), &ETAG);
    body::check_etag(etag, sent_etag.as_deref())?;
    let media_type = header(answer.headers(), &CONTENT_TYPE);
    let size = answer.content_length();
    let time = limits.time;
    let stream = answer.bytes_stream().map_err(|error| http_client::fault_from(&error, time));
    let bytes = body::collect(stream, size, limits.bytes_max).await?;
    Ok(Content { bytes, etag: sent_etag, media_type })
}

/// Returns the value of a header, or `None` if it is not text.
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    //! The test resolvers return the address of a listener on loopback, the canary.

    use std::io::{Read, Write};
    use std::net::{IpAddr, SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use reqwest::dns::{Addrs, Name, Resolving};

    use super::*;

    struct Always(IpAddr);

    /// Resolves each time to the next address.
    struct Rebinding {
        addresses: [IpAddr; 2],
        lookups: AtomicUsize,
    }

    impl Resolve for Always {
        fn resolve(&self, _name: Name) -> Resolving {
            answer(self.0)
        }
    }

    impl Resolve for Rebinding {
        fn resolve(&self, _name: Name) -> Resolving {
            answer(self.addresses[self.lookups.fetch_add(1, Ordering::Relaxed)])
        }
    }

    fn answer(address: IpAddr) -> Resolving {
        let addresses: Addrs = Box::new(std::iter::once(SocketAddr::new(address, 0)));
        Box::pin(std::future::ready(Ok(addresses)))
    }

    fn assert_untouched(canary: &TcpListener) {
        canary.set_nonblocking(true).unwrap();
        assert_eq!(canary.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_never_connected_to() {
        for address in ["127.0.0.1", "::1"] {
            let Ok(canary) = TcpListener::bind((address, 0)) else { continue };
            let host = format!("images.example.com:{}", canary.local_addr().unwrap().port());
            let settings = Settings {
                allow_hosts: vec![host.clone()],
                allow_http: true,
                ..Settings::default()
            };
            let resolver: Arc<dyn Resolve> = Arc::new(Always(address.parse().unwrap()));
            let limits = Limits::new(&settings).unwrap();
            let client = WebClient::new(&settings, &limits, &resolver).unwrap();
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{host}/a.jpg").parse().unwrap();
                let fault = client.read(&url, None, &limits).await.map(drop).unwrap_err();
                assert_eq!(fault.code(), "uri.forbidden_host", "{fault}");
                assert!(!fault.is_transient());
            }
            assert_untouched(&canary);
        }
    }

    /// The guard filters what the resolver returns. That protects only if the connection uses this
    /// result and does not resolve again. Only loopback can show it, hence the private client.
    #[tokio::test]
    async fn a_connection_uses_the_addresses_that_the_guard_has_seen() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        // Linux has the whole of 127.0.0.0/8 on loopback; other systems may have only 127.0.0.1.
        let canary = match TcpListener::bind(("127.0.0.2", port)) {
            Ok(canary) => canary,
            Err(_) if cfg!(not(target_os = "linux")) => return,
            Err(error) => panic!("127.0.0.2:{port}: {error}"),
        };
        let serve = std::thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let mut request = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let count = connection.read(&mut request).unwrap();
                request.rotate_left(count);
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
            connection.write_all(answer).unwrap();
        });
        let settings = Settings {
            allow_private_hosts: vec![format!("images.internal:{port}")],
            allow_http: true,
            ..Settings::default()
        };
        let resolver = Arc::new(Rebinding {
            addresses: ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap()),
            lookups: AtomicUsize::new(0),
        });
        let as_resolver: Arc<dyn Resolve> = Arc::clone(&resolver) as _;
        let limits = Limits::new(&settings).unwrap();
        let client = WebClient::new(&settings, &limits, &as_resolver).unwrap();
        let url = format!("http://images.internal:{port}/a.jpg").parse().unwrap();
        let content = client.read(&url, None, &limits).await.unwrap();
        assert_eq!(content.bytes, "abc");
        assert_eq!(resolver.lookups.load(Ordering::Relaxed), 1);
        serve.join().unwrap();
        assert_untouched(&canary);
    }
}
