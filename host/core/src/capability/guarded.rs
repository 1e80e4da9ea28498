//! Addresses that a rule must name before anything goes there: those of this machine, of private networks, and those
//! behind which clouds give out credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a guarded address belongs to, or none for one of the public internet.
///
/// An IPv4 address within an IPv6 one (mapped, compatible, NAT64, 6to4, Teredo) counts as what it leads to.
pub fn guarded_range(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(address) => guarded_v4(address),
        IpAddr::V6(address) => guarded_v6(address),
    }
}

fn guarded_v4(address: Ipv4Addr) -> Option<&'static str> {
    // Servers of metadata first: their names say most.
    match address.octets() {
        // AWS, Azure, Google and others; Oracle; Alibaba; Azure's host agent, which is in a public range.
        [169, 254, 169, 254] | [192, 0, 0, 192] | [100, 100, 100, 200] | [168, 63, 129, 16] => Some("metadata"),
        [0, ..] => Some("unspecified"),
        [10, ..] | [192, 168, ..] => Some("private"),
        [172, second, ..] if second & 0xf0 == 16 => Some("private"),
        [100, second, ..] if second & 0xc0 == 64 => Some("carrier-grade NAT"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local"),
        [192, 0, 0, _] => Some("reserved"),
        [198, 18 | 19, ..] => Some("benchmarking"),
        [first, ..] if first & 0xf0 == 224 => Some("multicast"),
        [first, ..] if first & 0xf0 == 240 => Some("reserved"),
        _ => None,
    }
}

fn guarded_v6(address: Ipv6Addr) -> Option<&'static str> {
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        guarded_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        // AWS over IPv6.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] => Some("metadata"),
        // Long out of use, and read differently by different systems.
        [0, 0, 0, 0, 0, 0, ..] => Some("reserved"),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Some("private"),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo: the client's address is stored inverted, the server's plainly.
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            embedded(high, low).or_else(|| embedded(!client_high, !client_low))
        }
        [0x100, 0, 0, 0, ..] => Some("reserved"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("unique local"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("link-local"),
        [first, ..] if first & 0xffc0 == 0xfec0 => Some("site-local"),
        [first, ..] if first & 0xff00 == 0xff00 => Some("multicast"),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_public_internet_is_guarded_however_it_is_written() {
        for (address, range) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.255.0.1", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("168.63.129.16", "metadata"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:a00:1", "private"),
            ("::127.0.0.1", "reserved"),
            ("64:ff9b::a9fe:a9fe", "metadata"),
            ("64:ff9b:1::1", "private"),
            ("2002:7f00:1::", "loopback"),
            ("2001:0:7f00:1::1", "loopback"),
            ("2001:0:808:808::80ff:fffe", "loopback"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("fc00::1", "unique local"),
            ("fd00:ec2::254", "metadata"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(guarded_range(address.parse().unwrap()), Some(range), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert_eq!(guarded_range(address.parse().unwrap()), None, "{address}");
        }
    }
}
