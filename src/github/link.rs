//! Where an answer leads: the next page of a list (`Link`, RFC 8288) and the new place of what has moved (`Location`).
//! Both are made into a path below our own API address, so that no credential ever goes elsewhere.

use http::header::{self, HeaderMap};
use url::{Origin, Url};

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To this route of the same API.
    Here(String),
    /// To another place, told without path and query.
    Away(String),
}

/// The route of the next page.
pub(super) fn next_page(headers: &HeaderMap, base: &Url) -> Option<String> {
    headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).find_map(|links| {
        // A comma may stand inside of an address, a new link begins with `<`.
        links.split('<').skip(1).find_map(|link| {
            let (target, parameters) = link.split_once('>')?;
            let is_next = parameters.split([';', ',']).any(|parameter| {
                parameter.trim().split_once('=').is_some_and(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("rel")
                        && value.trim().trim_matches('"').split_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
                })
            });
            is_next.then(|| base.join(target).ok()).flatten().map(|url| route_of(&url, base))
        })
    })
}

/// Where `Location` leads from `from`, a route of the API at `base`.
pub(super) fn moved_to(headers: &HeaderMap, from: &str, base: &Url) -> Option<Leads> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let url = address(base, from)?.join(location).ok()?;
    Some(if url.origin() == base.origin() {
        Leads::Here(route_of(&url, base))
    } else {
        Leads::Away(match url.origin() {
            origin @ Origin::Tuple(..) => origin.ascii_serialization(),
            Origin::Opaque(_) => format!("{}:", url.scheme()),
        })
    })
}

/// The address of a route: the API's address may have a path of its own (`https://HOST/api/v3`).
pub(super) fn address(base: &Url, route: &str) -> Option<Url> {
    Url::parse(&format!("{}{route}", base.as_str().trim_end_matches('/'))).ok()
}

fn route_of(url: &Url, base: &Url) -> String {
    let own = base.path().trim_end_matches('/');
    let path = url.path();
    // Only whole segments: `/api/v3x` is not below `/api/v3`.
    let below = path.strip_prefix(own).filter(|rest| rest.starts_with('/')).unwrap_or(path);
    url.query().map_or_else(|| below.to_owned(), |query| format!("{below}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_next_page_is_found_among_others() {
        let base = Url::parse("https://ghe.example/api/v3").unwrap();
        let next = |value: &str| next_page(&headers(header::LINK, value), &base);
        let both = r#"<https://ghe.example/api/v3/x?page=1>; rel="prev", <https://ghe.example/api/v3/x?a=1,2&page=3>; rel="next", <https://ghe.example/api/v3/x?page=9>; rel="last""#;
        assert_eq!(next(both).as_deref(), Some("/x?a=1,2&page=3"));
        assert_eq!(
            next("</repositories/1/x?page=2>; title=\"a\"; REL=next").as_deref(),
            Some("/repositories/1/x?page=2")
        );
        assert_eq!(next(r#"<https://elsewhere.example/api/v3/x?page=2>; rel="next""#).as_deref(), Some("/x?page=2"));
        assert_eq!(next(r#"<https://ghe.example/api/v3/x?page=1>; rel="last""#), None);
        assert_eq!(next("nonsense; rel=next"), None);
        assert_eq!(next_page(&HeaderMap::new(), &base), None);
    }

    #[test]
    fn a_redirect_stays_here_or_is_told_to_lead_away() {
        let base = Url::parse("https://ghe.example/api/v3/").unwrap();
        let to = |value: &str| moved_to(&headers(header::LOCATION, value), "/repos/o/r/x?y=1", &base);
        let here = |route: &str| Some(Leads::Here(route.to_owned()));
        assert_eq!(to("https://ghe.example/api/v3/repositories/7/x?y=1"), here("/repositories/7/x?y=1"));
        assert_eq!(to("https://ghe.example:443/api/v3x"), here("/api/v3x"));
        assert_eq!(to("/api/v3/repositories/7"), here("/repositories/7"));
        for away in
            ["http://ghe.example/api/v3/x", "https://ghe.example:8443/x", "https://evil.example/?t=1", "//evil.example"]
        {
            assert!(matches!(to(away), Some(Leads::Away(place)) if !place.contains('?')), "{away}");
        }
        assert_eq!(to("ftp://u:p@evil.example/x"), Some(Leads::Away("ftp://evil.example".to_owned())));
        assert_eq!(moved_to(&HeaderMap::new(), "/x", &base), None);
    }
}
