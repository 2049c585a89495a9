//! The hosts that web references may name, and the guard against server-side request forgery.
//!
//! Two checks keep references away from addresses that are not public. A host written as an
//! address is checked when its URL is admitted, again for each redirect. A name is checked by its
//! addresses: the resolver returns public ones only, and the connection uses exactly this result.
//! So a name that resolves differently the next time (DNS rebinding) gains nothing.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::redact;
use crate::storage::error::{NoPublicAddress, StorageError, UriFault};
use crate::storage::settings::Settings;
use crate::storage::uri::host_and_port;

/// The addresses of an allowed host that may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Public addresses only.
    Public,
    /// Any address, because the operator listed the host as private.
    Private,
}

/// The hosts that web references may name.
#[derive(Debug, Clone)]
pub(crate) struct HostRules {
    public: HashSet<Entry>,
    private: HashSet<Entry>,
    allow_http: bool,
}

/// One entry of an allow-list. Without a port, it allows the scheme's default port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    host: Host<String>,
    port: Option<u16>,
}

impl HostRules {
    /// Parses the allow-lists.
    ///
    /// # Errors
    /// Fails on a malformed entry, and on a public entry whose address is not public.
    pub(crate) fn new(settings: &Settings) -> Result<Self, StorageError> {
        let parse = |setting: &'static str, entries: &[String]| {
            entries
                .iter()
                .map(|entry| {
                    Entry::parse(entry).ok_or_else(|| StorageError::Setting {
                        setting,
                        value: redact::uri(entry),
                        why: "is not of the form `host` or `host:port`",
                    })
                })
                .collect::<Result<HashSet<_>, _>>()
        };
        let public = parse("storage.allow_hosts", &settings.allow_hosts)?;
        if let Some(entry) = public.iter().find(|entry| !entry.may_be_public()) {
            return Err(StorageError::Setting {
                setting: "storage.allow_hosts",
                value: entry.host.to_string(),
                why: "is not a public address; an image server of your own belongs in \
                      storage.allow_private_hosts",
            });
        }
        let private = parse("storage.allow_private_hosts", &settings.allow_private_hosts)?;
        Ok(Self { public, private, allow_http: settings.allow_http })
    }

    /// Returns true if no host is allowed.
    pub(crate) fn is_empty(&self) -> bool {
        self.public.is_empty() && self.private.is_empty()
    }

    /// Returns the route to a URL's host.
    ///
    /// # Errors
    /// Fails if the URL of a reference or a redirect is not allowed.
    pub(crate) fn admit(&self, url: &Url) -> Result<Route, UriFault> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UriFault::UnsupportedScheme(url.scheme().chars().take(32).collect()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UriFault::Invalid("userinfo before the host is refused"));
        }
        let Some(host) = url.host() else {
            return Err(UriFault::Invalid("it names no host"));
        };
        let route = self.route(&host.to_owned(), url)?;
        if url.scheme() == "http" && !self.allow_http {
            return Err(UriFault::PlainHttp);
        }
        Ok(route)
    }

    fn route(&self, host: &Host<String>, url: &Url) -> Result<Route, UriFault> {
        let with_port = Entry { host: host.clone(), port: url.port_or_known_default() };
        let is_in = |entries: &HashSet<Entry>| {
            entries.contains(&with_port)
                || url.port().is_none()
                    && entries.contains(&Entry { host: host.clone(), port: None })
        };
        if is_in(&self.private) {
            return Ok(Route::Private);
        }
        let refuse = |why| UriFault::ForbiddenHost { host: host_and_port(url), why };
        if !with_port.may_be_public() {
            return Err(refuse("is not a public address"));
        }
        if is_in(&self.public) {
            return Ok(Route::Public);
        }
        Err(refuse("is not allowed; correct the reference or add it to storage.allow_hosts"))
    }

    /// Returns the allowed hosts with their URLs to probe, ordered by host.
    pub(crate) fn urls(&self) -> Vec<(String, Vec<Url>)> {
        let schemes: &[_] = if self.allow_http { &["https", "http"] } else { &["https"] };
        let mut hosts: Vec<_> = self
            .public
            .iter()
            .chain(&self.private)
            .map(|entry| {
                let host = match entry.port {
                    Some(port) => format!("{}:{port}", entry.host),
                    None => entry.host.to_string(),
                };
                let urls = schemes
                    .iter()
                    .filter_map(|scheme| Url::parse(&format!("{scheme}://{host}/")).ok())
                    .collect();
                (host, urls)
            })
            .collect();
        hosts.sort();
        hosts
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let is_port = |tail: &str| !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_digit());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, tail)) if is_port(tail) && (!host.contains(':') || host.ends_with(']')) => {
                (host, Some(tail.parse().ok()?))
            }
            _ => (text, None),
        };
        // A host may contain a star, but an entry with one was meant as a pattern.
        if host.contains('*') {
            return None;
        }
        Some(Self { host: Host::parse(host).ok()?, port })
    }

    /// Returns false for an address that is not public. A name is checked when it is resolved.
    fn may_be_public(&self) -> bool {
        match self.host {
            Host::Domain(_) => true,
            Host::Ipv4(address) => is_public(IpAddr::V4(address)),
            Host::Ipv6(address) => is_public(IpAddr::V6(address)),
        }
    }
}

/// Returns true if an address is global unicast, so that it leads to the public internet.
///
/// Follows the special-purpose registries of IANA (RFC 6890). Refuses all addresses that embed
/// another one: IPv4-mapped, NAT64, 6to4, Teredo.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

#[expect(clippy::match_same_arms, reason = "one arm for each entry of the registry")]
fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        // This network, private, loopback; multicast and everything above it.
        [0 | 10 | 127 | 224.., ..] => true,
        // Carrier-grade NAT, 100.64.0.0/10.
        [100, second, ..] => (64..128).contains(&second),
        // Link-local, which includes the clouds' metadata services.
        [169, 254, ..] => true,
        [172, second, ..] => (16..32).contains(&second),
        // Protocol assignments, documentation, the former 6to4 relays.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] => true,
        [192, 168, ..] => true,
        // Benchmarks, 198.18.0.0/15; documentation.
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    };
    !is_special
}

#[expect(clippy::match_same_arms, reason = "one arm for each entry of the registry")]
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Protocol assignments with Teredo, 2001::/23; documentation.
        [0x2001, 0..0x200 | 0xdb8, ..] => false,
        // 6to4 carries any IPv4 address.
        [0x2002, ..] => false,
        // Documentation, 3fff::/20.
        [0x3fff, 0..0x1000, ..] => false,
        // So far, only 2000::/3 is assigned to the public internet.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to their public addresses only.
pub(crate) struct GuardedResolver {
    inner: Arc<dyn Resolve>,
}

impl GuardedResolver {
    /// Wraps a resolver.
    pub(crate) fn new(inner: Arc<dyn Resolve>) -> Self {
        Self { inner }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.inner.resolve(name);
        Box::pin(async move {
            let public: Vec<SocketAddr> =
                resolving.await?.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NoPublicAddress.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Resolves names with the operating system.
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn rules(public: &[&str], private: &[&str]) -> HostRules {
        let list = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect();
        HostRules::new(&Settings {
            allow_hosts: list(public),
            allow_private_hosts: list(private),
            allow_http: true,
            ..Settings::default()
        })
        .unwrap()
    }

    fn admitted(rules: &HostRules, url: &str) -> Result<Route, &'static str> {
        rules.admit(&Url::parse(url).unwrap()).map_err(|fault| fault.code())
    }

    #[test]
    fn special_addresses_are_not_public() {
        for address in "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 \
             169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 \
             192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 \
             240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 \
             64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1 \
             3fff::1 3fff:fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1"
            .split(' ')
        {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_public_internet_is_public() {
        for address in
            "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 \
             128.0.0.1 169.253.1.1 172.15.0.1 172.32.0.1 192.0.1.1 192.167.1.1 198.17.1.1 \
             198.20.0.1 223.255.255.255 2001:200::1 2001:4860:4860::8888 2606:4700::1111 \
             2a00:1450::1 3ffe::1 3fff:1000::1"
                .split(' ')
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn hosts_are_compared_as_a_whole_with_their_port() {
        let rules = rules(&["Images.Example.com", "cdn.example.com:8443", "bücher.example"], &[]);
        let allowed = [
            "https://images.example.com/a",
            "https://IMAGES.example.com:443/a",
            "http://images.example.com/a",
            "https://cdn.example.com:8443/a",
            "https://xn--bcher-kva.example/a",
            "https://images%2Eexample.com/a",
        ];
        for url in allowed {
            assert_eq!(admitted(&rules, url), Ok(Route::Public), "{url}");
        }
        let refused = [
            "https://example.com/a",
            "https://evil-images.example.com/a",
            "https://images.example.com.evil.org/a",
            "https://images.example.com./a",
            "https://images.example.com:8443/a",
            "https://cdn.example.com/a",
            "https://images.example.com%2eevil.org/",
            "https://xn--mages-8fa.example.com/a",
            "https://imagesexample.com/a",
            "https://evil.org/images.example.com",
            "https://evil.org#@images.example.com/",
            "https://evil.org\\@images.example.com/",
        ];
        for url in refused {
            assert_eq!(admitted(&rules, url), Err("uri.forbidden_host"), "{url}");
        }
    }

    #[test]
    fn userinfo_is_refused() {
        let rules = rules(&["images.example.com"], &["127.0.0.1:80"]);
        for url in [
            "https://me@images.example.com/",
            "https://me:pw@images.example.com/",
            "https://:pw@images.example.com/",
            "http://images.example.com@127.0.0.1/",
        ] {
            assert_eq!(admitted(&rules, url), Err("uri.invalid"), "{url}");
        }
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_however_it_is_written() {
        let rules = rules(&["images.example.com"], &[]);
        for host in
            "127.0.0.1 127.1 2130706433 0x7f000001 0177.0.0.1 017700000001 0x7f.1 0 127.0.0.1. \
             %31%32%37.0.0.1 1２7.0.0.1 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] \
             [::127.0.0.1] [64:ff9b::127.0.0.1] [fe80::1] [fd00:ec2::254] [2002:7f00:1::] \
             169.254.169.254 2852039166 10.0.0.1 172.16.0.1 192.168.0.1 100.64.0.1"
                .split(' ')
        {
            let url = format!("http://{host}/latest/meta-data");
            assert_eq!(admitted(&rules, &url), Err("uri.forbidden_host"), "{host}");
        }
    }

    #[test]
    fn other_schemes_and_plain_http_are_refused() {
        let mut rules = rules(&["images.example.com"], &[]);
        rules.allow_http = false;
        for url in ["http://images.example.com/", "ftp://images.example.com/", "file:///etc/passwd"]
        {
            assert_eq!(admitted(&rules, url), Err("uri.unsupported_scheme"), "{url}");
        }
        assert_eq!(admitted(&rules, "http://10.0.0.1/"), Err("uri.forbidden_host"));
    }

    #[test]
    fn a_private_host_is_allowed_by_its_exact_name_and_port_only() {
        let rules = rules(&[], &["127.0.0.1:8080", "images.internal", "[fd00::1]:81", "[fd00::2]"]);
        for url in "http://127.0.0.1:8080/ http://2130706433:8080/ https://images.internal/ \
             http://[fd00::1]:81/ http://[fd00:0::2]/"
            .split(' ')
        {
            assert_eq!(admitted(&rules, url), Ok(Route::Private), "{url}");
        }
        for url in ["http://127.0.0.1/", "http://127.0.0.1:8081/", "https://images.internal:8443/"]
        {
            assert_eq!(admitted(&rules, url), Err("uri.forbidden_host"), "{url}");
        }
    }

    #[test]
    fn a_list_with_an_unusable_entry_is_refused() {
        let check = |public: &str, private: &str| {
            let settings = Settings {
                allow_hosts: vec![public.to_owned()],
                allow_private_hosts: vec![private.to_owned()],
                ..Settings::default()
            };
            HostRules::new(&settings).unwrap_err().to_string()
        };
        assert!(check("10.0.0.1", "a").contains("storage.allow_private_hosts"));
        for entry in
            ["https://a.com", "a.com/b", "me@a.com", "a.com:99999", "fd00::1", "", "*.a.com"]
        {
            assert!(check(entry, "a").contains("storage.allow_hosts"), "{entry}");
        }
    }

    /// Resolves each time to the next list of addresses.
    struct Scripted {
        answers: Vec<Vec<&'static str>>,
        lookups: AtomicUsize,
    }

    impl Resolve for Scripted {
        fn resolve(&self, _name: Name) -> Resolving {
            let answer = self.answers[self.lookups.fetch_add(1, Ordering::Relaxed)].clone();
            Box::pin(async move {
                let addresses =
                    answer.into_iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0));
                Ok(Box::new(addresses) as Addrs)
            })
        }
    }

    #[tokio::test]
    async fn only_public_addresses_remain_at_every_lookup() {
        let guarded = GuardedResolver::new(Arc::new(Scripted {
            answers: vec![vec!["10.0.0.1", "1.1.1.1", "::1"], vec!["127.0.0.1", "::ffff:10.0.0.1"]],
            lookups: AtomicUsize::new(0),
        }));
        let first = guarded.resolve("rebinding.example".parse().unwrap()).await;
        let kept: Vec<_> = first.ok().unwrap().map(|address| address.ip().to_string()).collect();
        assert_eq!(kept, ["1.1.1.1"]);
        let second = guarded.resolve("rebinding.example".parse().unwrap()).await;
        assert_eq!(second.err().unwrap().to_string(), "the name has no public address");
    }
}
