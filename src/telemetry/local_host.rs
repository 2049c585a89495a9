//! Names of this machine in the `Host` of a request.

use std::net::IpAddr;

/// Returns true if a `Host` names this machine, with or without a port.
pub(crate) fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let is_loopback = |address: IpAddr| address.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LOCALHOST:9465", "127.0.0.1:1", "127.8.8.8", "[::1]:9465"] {
            assert!(is_local_host(host), "{host}");
        }
        for host in ["", "example.com:9465", "localhost.example.com", "10.0.0.1", "[::2]:1", "["] {
            assert!(!is_local_host(host), "{host}");
        }
    }
}
