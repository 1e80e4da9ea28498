//! Which scopes are understood, what they cover, and that none covers more than it says.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::capability::{Axis, CapabilityId, Resource};

fn id(text: &str) -> CapabilityId {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn covers(scope: &str, url: &str) -> bool {
    id(&format!("net.http:{scope}")).covers(Axis::NetHttp, &Resource::request("GET", url))
}

fn socket(address: &str, names: &[&str]) -> Resource {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Resource::Socket(SocketTarget { names, ..SocketTarget::new(address.ip(), address.port()) })
}

#[test]
fn an_http_scope_covers_its_scheme_host_port_and_path() {
    for (scope, url, expected) in [
        ("https://example.com", "https://example.com/any/path?query", true),
        ("https://example.com", "https://EXAMPLE.com.:443/", true),
        ("https://example.com", "http://example.com/", false),
        ("https://example.com", "https://example.com:8443/", false),
        ("https://example.com", "https://sub.example.com/", false),
        ("https://example.com", "https://example.com.evil.example/", false),
        ("https://example.com", "https://example.community/", false),
        ("https://example.com:8443", "https://example.com:8443/", true),
        ("https://*.example.com", "https://a.example.com/", true),
        ("https://*.example.com", "https://a.b.example.com/", true),
        ("https://*.example.com", "https://example.com/", false),
        ("https://*.example.com", "https://notexample.com/", false),
        ("https://*.example.com", "https://a.example.com.evil.example/", false),
        ("https://example.com/v1", "https://example.com/v1", true),
        ("https://example.com/v1", "https://example.com/v1/x", true),
        ("https://example.com/v1", "https://example.com/v1?x", true),
        ("https://example.com/v1", "https://example.com/v10", false),
        ("https://example.com/v1/", "https://example.com/v1", false),
        ("https://example.com/v1/", "https://example.com/v1/../admin", false),
        ("https://example.com/v1/", "https://example.com/v1/%2e%2e/admin", false),
        ("https://example.com/v1/", "https://example.com/v1/..%2fadmin", false),
        ("https://example.com/v1/", "https://example.com/v1/..%5cadmin", false),
        ("https://example.com/v1/", "https://example.com/v1/%252e%252e/admin", false),
        ("https://example.com/v1/", "https://example.com/v1//x", false),
        ("https://example.com/v1/", "https://example.com/%761/x", true),
        ("https://example.com/v1/", "https://example.com/V1/x", false),
        ("http://127.0.0.1:8080", "http://2130706433:8080/", true),
        ("http://127.0.0.1:8080", "http://[::ffff:7f00:1]:8080/", true),
        ("http://[::1]", "http://[0::1]/", true),
        ("http://127.0.0.1", "http://localhost/", false),
        ("https://bücher.example", "https://xn--bcher-kva.example/", true),
    ] {
        assert_eq!(covers(scope, url), expected, "{scope} {url}");
    }
    let reading = id("net.http:GET,HEAD https://example.com/v1/");
    for (method, expected) in [("GET", true), ("HEAD", true), ("POST", false), ("DELETE", false)] {
        let request = Resource::request(method, "https://example.com/v1/x");
        assert_eq!(reading.covers(Axis::NetHttp, &request), expected, "{method}");
    }
}

#[test]
fn a_denial_is_not_got_around_by_another_spelling_of_the_path() {
    let denied = id("net.http:https://example.com/admin");
    for path in [
        "admin",
        "admin/x",
        "%61dmin",
        "./admin",
        "x/../admin",
        "x/..%2fadmin",
        "//admin",
        "x%5c..%5cadmin",
        "%2561dmin",
    ] {
        let request = Resource::request("GET", &format!("https://example.com/{path}"));
        assert!(denied.may_cover(Axis::NetHttp, &request), "{path}");
    }
    assert!(!denied.may_cover(Axis::NetHttp, &Resource::request("GET", "https://example.com/public")));
    assert!(!denied.may_cover(Axis::NetHttp, &Resource::request("GET", "https://other.example/x%2fadmin")));
}

#[test]
fn a_socket_scope_covers_a_name_that_was_looked_up_or_its_addresses() {
    for (scope, resource, expected) in [
        ("10.0.0.0/8:5432", socket("10.9.8.7:5432", &[]), true),
        ("10.0.0.0/8:5432", socket("[::ffff:10.9.8.7]:5432", &[]), true),
        ("10.0.0.0/8:5432", socket("11.0.0.1:5432", &[]), false),
        ("10.0.0.0/8:5432", socket("10.9.8.7:5433", &[]), false),
        ("127.0.0.1:80", socket("127.0.0.1:80", &[]), true),
        ("127.0.0.1:80", socket("127.0.0.2:80", &[]), false),
        ("[fd00::]/8:443", socket("[fd12::1]:443", &[]), true),
        ("[fd00::]/8:443", socket("[fe12::1]:443", &[]), false),
        ("[::1]:443", socket("[::1]:443", &[]), true),
        ("db.example.com:5432", socket("203.0.113.1:5432", &["db.example.com"]), true),
        ("db.example.com:5432", socket("203.0.113.1:5432", &["other.example.com"]), false),
        ("db.example.com:5432", socket("203.0.113.1:5432", &[]), false),
        ("*.example.com:443", socket("203.0.113.1:443", &["x.example", "a.example.com"]), true),
    ] {
        let id = id(&format!("net.tcp:{scope}"));
        assert_eq!(id.covers(Axis::NetTcp, &resource), expected, "{scope} {resource}");
        assert!(!id.covers(Axis::NetUdp, &resource));
    }
}

#[test]
fn names_and_variables_are_exact_but_for_a_star() {
    let dns = |scope: &str, name: &str| id(&format!("net.dns:{scope}")).covers(Axis::NetDns, &Resource::host(name));
    assert!(dns("example.com", "EXAMPLE.com."));
    assert!(!dns("example.com", "a.example.com"));
    assert!(dns("*.example.com", "a.example.com"));
    assert!(!dns("*.example.com", "example.com"));
    let variables = id("env.read:APP_*");
    assert!(variables.covers(Axis::EnvRead, &Resource::name("APP_MODE")));
    assert!(!variables.covers(Axis::EnvRead, &Resource::name("MY_APP_MODE")));
    let both = Resource::Names { names: vec!["APP_A".into(), "LANG".into()] };
    assert!(!variables.covers(Axis::EnvRead, &both));
    assert!(id("env.read").covers(Axis::EnvRead, &both));
    assert!(id("env.read:LANG").covers(Axis::EnvRead, &Resource::name("LANG")));
}

#[test]
fn forms_that_nothing_matches_are_refused() {
    for text in [
        "net.http:example.com",
        "net.http:https://",
        "net.http:https://*",
        "net.http:https://*.*.example.com",
        "net.http:https://a.*.example.com",
        "net.http:https://*.10.0.0.1",
        "net.http:https://10.0.0.0/8:443",
        "net.http:https://example.com:*",
        "net.http:https://example.com:",
        "net.http:https://example.com:0",
        "net.http:https://user@example.com",
        "net.http:https://example.com?x=1",
        "net.http:https://example.com#x",
        "net.http:https://example.com\\x",
        "net.http:https://exa\tmple.com",
        "net.http:https://example.com/#x",
        "net.http:https://example.com/v*/",
        "net.http:https://example.com/a/../b",
        "net.http:https://example.com/a//b",
        "net.http:https://example.com/a%2fb",
        "net.http:HTTPS://example.com",
        "net.http:ws://example.com",
        "net.http:get https://example.com",
        "net.http:GET, https://example.com",
        "net.http:CONNECT https://example.com",
        "net.http:GET  https://example.com",
        "net.tcp:example.com",
        "net.tcp:example.com:http",
        "net.tcp:example.com:*",
        "net.tcp:example.com:+80",
        "net.tcp:example.com:65536",
        "net.tcp:*:80",
        "net.tcp:::1:80",
        "net.tcp:10.1.2.3/8:80",
        "net.tcp:10.0.0.0/33:80",
        "net.tcp:10.0.0.0/:80",
        "net.tcp:fd00::/8:80",
        "net.tcp:[::ffff:10.0.0.0]/104:80",
        "net.dns:",
        "net.dns:*",
        "net.dns:example.*",
        "net.dns:example.com:80",
        "env.read:*",
        "env.read:A-B",
        "env.read:1A",
        "env.read:A*B",
        "env.read:a.b",
    ] {
        // HTTP's "10.0.0.0/8:443" reads as host and path, so it is the one that is understood, as just that.
        if text == "net.http:https://10.0.0.0/8:443" {
            assert!(!id(text).covers(Axis::NetHttp, &Resource::request("GET", "https://10.0.0.1/8:443")));
            continue;
        }
        assert!(text.parse::<CapabilityId>().is_err(), "{text}");
    }
}

#[test]
fn scopes_meet_when_some_call_may_be_covered_by_both() {
    for (one, other, expected) in [
        ("net.http:https://*.example.com", "net.http:https://a.example.com/v1", true),
        ("net.http:https://*.example.com", "net.http:https://*.b.example.com", true),
        ("net.http:https://*.example.com", "net.http:https://*.other.example", false),
        ("net.http:GET https://example.com", "net.http:POST https://example.com", false),
        ("net.http:https://example.com/a", "net.http:https://example.com/b", false),
        ("net.http:https://example.com/a", "net.http:https://example.com/a/b", true),
        ("net.tcp:10.0.0.0/8:80", "net.tcp:10.1.0.0/16:80", true),
        ("net.tcp:10.0.0.0/8:80", "net.tcp:11.0.0.0/8:80", false),
        ("net.tcp:10.0.0.0/8:80", "net.tcp:db.example:80", true),
        ("net.dns:*.example.com", "net.dns:a.example.com", true),
        ("env.read:APP_*", "env.read:APP_X", true),
        ("env.read:APP_*", "env.read:X", false),
    ] {
        assert_eq!((id(one).meets(&id(other)), id(other).meets(&id(one))), (expected, expected), "{one} {other}");
    }
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("example".to_owned()), Just("com".to_owned()), "[a-z][a-z0-9]{0,3}"]
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(label(), 1..5).prop_map(|labels| labels.join("."))
}

fn path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("v1"),
        Just("v1x"),
        Just("."),
        Just(".."),
        Just("%2e%2e"),
        Just("%2F"),
        Just("%5c"),
        Just("%76"),
        Just(""),
        Just("admin")
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("/{}", pieces.join("/")))
}

proptest! {
    /// Said again in the plainest way: same scheme and port, a host whose labels end alike, a path whose decoded segments
    /// begin alike.
    #[test]
    fn an_http_scope_never_covers_more_than_it_says(
        parent in name(), below in any::<bool>(), host in name(), tls in any::<bool>(), port in prop::option::of(1..3_u16),
        wanted_tls in any::<bool>(), wanted_port in prop::option::of(1..3_u16), path in path(),
    ) {
        let scheme = |tls| if tls { "https" } else { "http" };
        let with = |port: Option<u16>| port.map(|port| format!(":{port}")).unwrap_or_default();
        let star = if below { "*." } else { "" };
        let scope = format!("{}://{star}{parent}{}/v1", scheme(tls), with(port));
        let url = format!("{}://{host}{}{path}", scheme(wanted_tls), with(wanted_port));
        let Ok(id) = format!("net.http:{scope}").parse::<CapabilityId>() else { return Ok(()) };
        let request = Resource::request("GET", &url);
        if id.covers(Axis::NetHttp, &request) {
            prop_assert!(tls == wanted_tls && port == wanted_port, "{} {}", scope, url);
            let (own, wanted): (Vec<_>, Vec<_>) = (parent.split('.').collect(), host.split('.').collect());
            prop_assert!(if below { wanted.len() > own.len() && wanted.ends_with(&own) } else { wanted == own }, "{} {}", scope, url);
            let Resource::Request(target) = &request else { panic!("{url}") };
            let decoded = target.path().replace("%2F", "/").replace("%5C", "/");
            let segments: Vec<_> = decoded.split('/').collect();
            prop_assert!(segments.get(1) == Some(&"v1") && !segments.contains(&".."), "{} {}", scope, url);
            prop_assert!(id.may_cover(Axis::NetHttp, &request));
        }
    }

    #[test]
    fn a_network_covers_exactly_the_addresses_with_its_prefix(address in any::<u32>(), other in any::<u32>(), length in 0..=32_u8) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let network = std::net::Ipv4Addr::from(address & mask);
        let id = id(&format!("net.tcp:{network}/{length}:80"));
        let target = Resource::Socket(SocketTarget::new(IpAddr::V4(other.into()), 80));
        prop_assert_eq!(id.covers(Axis::NetTcp, &target), other & mask == address & mask);
    }

    #[test]
    fn a_scope_is_never_covered_by_more_than_the_bare_axis(host in name(), path in path()) {
        let request = Resource::request("GET", &format!("https://{host}{path}"));
        prop_assert!(id("net.http").covers(Axis::NetHttp, &request) != request.is_never_covered());
        prop_assert!(!id("net.tcp").covers(Axis::NetHttp, &request));
    }
}
