//! Whom a request comes from: the address of the caller behind the proxies that are believed.
//! Deliberately absent: trust in a header that anybody can send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

/// Networks of proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Debug, Clone, Copy)]
struct Network {
    /// The address as 128 bits, IPv4 mapped.
    bits: u128,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (whole, offset) = match address {
            IpAddr::V4(_) => (32, 96),
            IpAddr::V6(_) => (128, 0),
        };
        let length = length.unwrap_or(whole);
        (length <= whole).then(|| Self {
            bits: bits(address),
            prefix: length + offset,
        })
    }

    fn contains(self, address: IpAddr) -> bool {
        let shift = 128 - self.prefix;
        // A shift by all 128 bits overflows; a network of length 0 holds everything.
        shift == 128 || bits(address) >> shift == self.bits >> shift
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl TrustedProxies {
    /// Reads networks; malformed ones were refused by [`check`](Self::check) before.
    pub fn of(texts: &[String]) -> Self {
        Self(
            texts
                .iter()
                .filter_map(|text| Network::parse(text.trim()))
                .collect(),
        )
    }

    /// Whether a setting's text is a list of networks.
    pub fn check(text: &str) -> Result<(), String> {
        let wrong = text
            .split(',')
            .map(str::trim)
            .find(|part| !part.is_empty() && Network::parse(part).is_none());
        match wrong {
            None => Ok(()),
            Some(part) => Err(format!(
                "must be addresses or networks such as 10.0.0.0/8, and {part:?} is neither"
            )),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The caller: the peer, or what the last believed proxy saw.
    pub fn caller(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut caller = peer.ip().to_canonical();
        if !self.contains(caller) {
            return caller;
        }
        let hops: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for hop in hops.iter().rev() {
            let Ok(address) = hop.trim().parse::<IpAddr>() else {
                break;
            };
            caller = address.to_canonical();
            if !self.contains(caller) {
                break;
            }
        }
        caller
    }
}

/// What a rate limit counts as one address: whoever has one IPv6 address has its /64.
pub fn bucket(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits())),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", value.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn a_forwarded_address_counts_only_behind_a_believed_proxy() {
        let proxies = TrustedProxies::of(&["10.0.0.0/8".to_owned(), "::1".to_owned()]);
        let table: &[(&str, &[&str], &str)] = &[
            ("203.0.113.9:1", &["198.51.100.1"], "203.0.113.9"),
            ("10.1.2.3:1", &["198.51.100.1"], "198.51.100.1"),
            (
                "10.1.2.3:1",
                &["6.6.6.6, 198.51.100.1, 10.9.9.9"],
                "198.51.100.1",
            ),
            ("10.1.2.3:1", &["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3:1", &["nonsense"], "10.1.2.3"),
            ("[::1]:1", &[], "::1"),
        ];
        for (peer, headers, caller) in table {
            let peer: SocketAddr = peer.parse().expect("an address");
            assert_eq!(
                proxies.caller(peer, &forwarded(headers)).to_string(),
                *caller,
                "{peer} {headers:?}"
            );
        }
    }

    #[test]
    fn malformed_networks_are_named() {
        assert!(TrustedProxies::check("10.0.0.0/8, fd00::/8,127.0.0.1").is_ok());
        assert!(TrustedProxies::check("10.0.0.0/33").is_err_and(|wrong| wrong.contains("/33")));
    }
}
