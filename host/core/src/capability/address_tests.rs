//! One form for everything that means the same place, and nothing that means two.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::capability::{Axis, Resource};

fn shown(url: &str) -> String {
    HttpTarget::parse("GET", url).map_or_else(str::to_owned, |target| target.to_string())
}

#[test]
fn urls_have_one_form() {
    for (url, canonical) in [
        ("https://api.example.com", "GET https://api.example.com:443/"),
        ("HTTPS://API.Example.COM.:443/a", "GET https://API.Example.COM:443/a"),
        ("http://example.com/a/./b/../c?q=1#part", "GET http://example.com:80/a/c?q=1"),
        ("http://example.com/%2e%2e/%61dmin/%7e", "GET http://example.com:80/admin/~"),
        ("http://example.com/a%2fb%c3%a4", "GET http://example.com:80/a%2Fb%C3%A4"),
        ("http://example.com\\a\\b", "GET http://example.com:80/a/b"),
        ("https://bücher.example/", "GET https://xn--bcher-kva.example:443/"),
        ("http://2130706433/", "GET http://127.0.0.1:80/"),
        ("http://0x7f.1/", "GET http://127.0.0.1:80/"),
        ("http://017700000001/", "GET http://127.0.0.1:80/"),
        ("http://127.1.:8080/", "GET http://127.0.0.1:8080/"),
        ("http://[::ffff:127.0.0.1]/", "GET http://127.0.0.1:80/"),
        ("http://[0:0:0:0:0:0:0:1]/", "GET http://[::1]:80/"),
        ("http://%65xample.com/", "GET http://example.com:80/"),
        ("http://１２７.0.0.1/", "GET http://127.0.0.1:80/"),
    ] {
        assert_eq!(shown(url), canonical, "{url}");
    }
}

#[test]
fn what_is_no_clear_target_is_none() {
    for url in [
        "https://user:password@example.com/",
        "https://user@example.com/",
        "https://@example.com/",
        "https://example.com@evil.example/",
        "https:\\\\user@example.com/",
        "ftp://example.com/",
        "example.com",
        "https://",
        "https://a..b/",
        "https://exa mple.com/",
        "https://*.example.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "http://[::1%25eth0]/",
        "http://1.2.3.4.5/",
    ] {
        assert!(HttpTarget::parse("GET", url).is_err(), "{url}: {}", shown(url));
    }
    for method in ["get", "CONNECT", "", "GET /x", "GET\r\n"] {
        assert!(HttpTarget::parse(method, "https://example.com").is_err(), "{method:?}");
    }
    let Resource::NoTarget { text, .. } = Resource::request("GET", "https://ann:hunter22@example.com/x") else {
        panic!("it has a password")
    };
    assert_eq!(text, "GET …@example.com/x");
}

#[test]
fn hosts_are_names_or_addresses() {
    let host = |text: &str| NetHost::parse(text).map(|host| host.to_string());
    assert_eq!(host("Example.COM."), Some("Example.COM".into()));
    assert_eq!(NetHost::parse("Example.COM."), NetHost::parse("example.com"));
    assert_eq!(host("::1"), Some("[::1]".into()));
    assert_eq!(host("[::ffff:10.0.0.1]"), Some("10.0.0.1".into()));
    assert_eq!(host("0x0a.1"), Some("10.0.0.1".into()));
    for wrong in ["", ".", "a b", "a/b", "a:80", "*", "user@host", "a..b", &"a".repeat(64)] {
        assert_eq!(host(wrong), None, "{wrong}");
    }
}

#[test]
fn a_record_says_enough_to_decide_again() {
    let resources = [
        (Axis::NetHttp, Resource::request("POST", "https://api.example.com/v1?x=1")),
        (Axis::NetTcp, Resource::Socket(SocketTarget::new("::1".parse().unwrap(), 80))),
        (
            Axis::NetUdp,
            Resource::Socket(SocketTarget {
                names: vec!["a.example".into(), "b.example".into()],
                ..SocketTarget::new("10.0.0.1".parse().unwrap(), 53)
            }),
        ),
        (Axis::NetDns, Resource::host("Example.com")),
        (Axis::EnvRead, Resource::Names { names: vec!["A".into(), "B".into()] }),
        (Axis::EnvRead, Resource::Whole),
    ];
    for (axis, resource) in resources {
        assert_eq!(Resource::from_record(axis, &resource.to_string(), None), Some(resource));
    }
    for (axis, text) in [(Axis::NetHttp, "GET …@example.com/x"), (Axis::NetTcp, "x:1"), (Axis::NetDns, "a b")] {
        assert!(Resource::from_record(axis, text, None).unwrap().is_never_covered(), "{text}");
    }
    assert_eq!(Resource::from_record(Axis::NetDns, "[REDACTED:token:secret_token].example", None), None);
}

proptest! {
    #[test]
    fn the_canonical_form_is_its_own_canonical_form(
        host in "[a-zA-Z0-9.:\\[\\]%x-]{1,20}", path in "[a-zA-Z0-9./%\\\\;?#_~-]{0,30}",
    ) {
        if let Ok(target) = HttpTarget::parse("GET", &format!("https://{host}/{path}")) {
            let url = format!("{}{}", target.origin, target.path_and_query);
            prop_assert_eq!(HttpTarget::parse("GET", &url).unwrap(), target);
        }
    }
}
