//! `http(s):` references, read with a client of our own.
//!
//! The HTTP store of `object_store` is not used: it rebuilds the path, which breaks presigned
//! URLs, needs a `Content-Length`, and has no say over redirects.

use std::sync::Arc;

use futures::TryStreamExt;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MATCH, LOCATION};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use crate::storage::body;
use crate::storage::etag::Etag;
use crate::storage::failure::FetchFault;
use crate::storage::fetch::{Content, Limits};
use crate::storage::guard::{GuardedResolver, HostRules, Route};
use crate::storage::http;
use crate::storage::settings::Settings;
use crate::storage::stores::StorageError;
use crate::storage::uri::UriFault;

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
    /// Connects to wherever the name of an own host leads.
    private: Client,
}

impl WebClient {
    /// Prepares the clients, unless no host is allowed; `resolver` answers for every name.
    pub(crate) fn new(
        settings: &Settings,
        resolver: &Arc<dyn Resolve>,
    ) -> Result<Self, StorageError> {
        let rules = HostRules::new(settings)?;
        let redirects_max = settings.redirects_max;
        if rules.is_empty() {
            return Ok(Self { rules, clients: None, redirects_max });
        }
        let limits = http::TimeLimits::new(settings);
        let guarded = Arc::new(GuardedResolver::new(Arc::clone(resolver)));
        // A proxy would resolve names itself, behind the guard's back.
        let public = http::build(
            || http::builder(limits).no_proxy().dns_resolver(Arc::clone(&guarded)),
            settings.allow_http,
        )?;
        let private = http::build(
            || http::builder(limits).no_proxy().dns_resolver(Arc::clone(resolver)),
            settings.allow_http,
        )?;
        Ok(Self { rules, clients: Some(Clients { public, private }), redirects_max })
    }

    /// Judges a reference's URL before anything is sent.
    pub(crate) fn admit(&self, url: &Url) -> Result<(), UriFault> {
        self.rules.admit(url).map(drop)
    }

    /// Reads a resource, following redirects as far as each target is allowed.
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
            let answer =
                request.send().await.map_err(|error| http::fault_from(&error, limits.time))?;
            match answer.status() {
                StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {
                    return read_body(answer, etag, limits).await;
                }
                status if is_redirect(status) => url = redirect_target(&url, &answer)?,
                status => return Err(FetchFault::from_status(status.as_u16(), None)),
            }
        }
        Err(FetchFault::TooManyRedirects(self.redirects_max))
    }

    /// Lists every allowed host with the URLs to try it by.
    pub(crate) fn hosts(&self) -> Vec<(String, Vec<Url>)> {
        self.rules.urls()
    }

    /// Asks a host for anything at all; the first URL that is answered is enough.
    pub(crate) async fn probe(&self, urls: &[Url], limits: &Limits) -> Result<(), FetchFault> {
        let mut outcome = Err(FetchFault::Unavailable("no URL can be made of it".to_owned()));
        for url in urls {
            let answer = self.client_for(url)?.head(url.clone()).send().await;
            outcome = answer.map(drop).map_err(|error| http::fault_from(&error, limits.time));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn client_for(&self, url: &Url) -> Result<&Client, UriFault> {
        let route = self.rules.admit(url)?;
        let clients = self.clients.as_ref().expect("a host is admitted, so the list is not empty");
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

async fn read_body(
    answer: Response,
    etag: Option<&Etag>,
    limits: &Limits,
) -> Result<Content, FetchFault> {
    let sent_etag = header(answer.headers(), &ETAG);
    if let Some(expected) = etag {
        expected.verify(sent_etag.as_deref())?;
    }
    let media_type = header(answer.headers(), &CONTENT_TYPE);
    let size = answer.content_length();
    let time = limits.time;
    let stream = answer.bytes_stream().map_err(|error| http::fault_from(&error, time));
    let bytes = body::collect(stream, size, limits.bytes_max).await?;
    Ok(Content { bytes, etag: sent_etag, media_type })
}

/// Reads a header that is text; what is not cannot be an etag, a type or an address.
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    //! A resolver of our own answers with the address of a listener on loopback, the canary.

    use std::io::{Read, Write};
    use std::net::{IpAddr, SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use reqwest::dns::{Addrs, Name, Resolve, Resolving};

    use super::WebClient;
    use crate::storage::fetch::Limits;
    use crate::storage::settings::Settings;

    struct Always(IpAddr);

    /// Answers each question with the next address.
    struct Rebinding {
        answers: [IpAddr; 2],
        asked: AtomicUsize,
    }

    impl Resolve for Always {
        fn resolve(&self, _name: Name) -> Resolving {
            answer(self.0)
        }
    }

    impl Resolve for Rebinding {
        fn resolve(&self, _name: Name) -> Resolving {
            answer(self.answers[self.asked.fetch_add(1, Ordering::Relaxed)])
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
            let place = format!("images.example.com:{}", canary.local_addr().unwrap().port());
            let settings = Settings {
                allow_hosts: vec![place.clone()],
                allow_http: true,
                ..Settings::default()
            };
            let resolver: Arc<dyn Resolve> = Arc::new(Always(address.parse().unwrap()));
            let client = WebClient::new(&settings, &resolver).unwrap();
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{place}/a.jpg").parse().unwrap();
                let limits = Limits::new(&settings);
                let fault = client.read(&url, None, &limits).await.map(drop).unwrap_err();
                assert_eq!(fault.code(), "uri.forbidden_host", "{fault}");
                assert!(!fault.is_transient());
            }
            assert_untouched(&canary);
        }
    }

    /// The guard judges an answer of the resolver; so that this means something, one answer has to
    /// serve a whole connection. Loopback is the only place to try it, hence the private client.
    #[tokio::test]
    async fn a_connection_goes_to_the_very_answer_that_the_guard_judges() {
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
            answers: ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap()),
            asked: AtomicUsize::new(0),
        });
        let as_resolver: Arc<dyn Resolve> = Arc::clone(&resolver) as _;
        let client = WebClient::new(&settings, &as_resolver).unwrap();
        let url = format!("http://images.internal:{port}/a.jpg").parse().unwrap();
        let content = client.read(&url, None, &Limits::new(&settings)).await.unwrap();
        assert_eq!(content.bytes, "abc");
        assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
        serve.join().unwrap();
        assert_untouched(&canary);
    }
}
