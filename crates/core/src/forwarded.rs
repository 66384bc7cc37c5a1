//! Where a request comes from, as the proxies in front of the REST server say.

use std::net::{IpAddr, SocketAddr};

/// The client's address in a header `X-Forwarded-For`. Each proxy appends the address that it hears from. So with
/// three trusted proxies, the first of them wrote the third entry from the end, and anybody may have made up what
/// stands before it. `None` if no proxy is trusted, there are fewer entries, or the entry is not an address.
///
/// An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is read as IPv4, and a port after the address, which
/// some proxies write, is dropped.
pub fn client_address(header: &str, trusted_proxies: usize) -> Option<IpAddr> {
    let place = trusted_proxies.checked_sub(1)?;
    let entry = header.rsplit(',').nth(place)?.trim();
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    bare.parse()
        .or_else(|_| entry.parse().map(|socket: SocketAddr| socket.ip()))
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(header: &str, trusted_proxies: usize) -> Option<String> {
        client_address(header, trusted_proxies).map(|address| address.to_string())
    }

    #[test]
    fn without_a_trusted_proxy_no_address_is_known() {
        assert_eq!(client("192.0.2.1", 0), None);
        assert_eq!(client("192.0.2.1, 198.51.100.1", 0), None);
    }

    #[test]
    fn what_the_first_trusted_proxy_wrote_counts_and_nothing_before_it() {
        let chain = "203.0.113.9, 192.0.2.1,198.51.100.1";
        assert_eq!(client(chain, 1).unwrap(), "198.51.100.1");
        assert_eq!(client(chain, 2).unwrap(), "192.0.2.1");
        assert_eq!(client(chain, 3).unwrap(), "203.0.113.9");
        assert_eq!(client(chain, 4), None);
        assert_eq!(client("10.0.0.1,,192.0.2.1", 2), None);
    }

    #[test]
    fn addresses_are_read_in_all_forms_that_proxies_write() {
        for (entry, address) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1\t", "192.0.2.1"),
            ("192.0.2.1:8080", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert_eq!(client(entry, 1).unwrap(), address, "{entry}");
        }
        for entry in [
            "",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.1/32",
            "0x7f.1",
            "192.0.02.1",
            "[192.0.2.1",
            "192.0.2.1 198.51.100.1",
            "localhost",
            "fe80::1%eth0",
        ] {
            assert_eq!(client(entry, 1), None, "{entry}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_puts_before_changes_nothing(forged in ".*") {
            let honest = format!("{forged}, 192.0.2.1");
            prop_assert_eq!(client(&honest, 1).unwrap(), "192.0.2.1");
            prop_assert_eq!(client(&format!("{honest}, 10.0.0.1"), 2).unwrap(), "192.0.2.1");
        }

        #[test]
        fn reading_never_panics(header in any::<String>(), proxies in 0..20_usize) {
            client_address(&header, proxies);
        }
    }
}
