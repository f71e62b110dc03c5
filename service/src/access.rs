//! Who may make a call: by the listener that a request came in through, and on TCP by its token, too.
//!
//! The directory and mode of a Unix socket guard it. A TCP port, even on loopback, is open to every user of
//! the machine, to every container of a pod, and through a browser to every web page. So a call over TCP
//! always needs a token and a `Host` from a list (a page can make its own name resolve to 127.0.0.1), and
//! must not come from a web page.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::peer::Peer;
use crate::problem::Problem;
use crate::role::{Role, Roles};
use crate::tokens::Tokens;

/// What a listener lets in.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// What may be called through it.
    pub(crate) roles: Roles,
    /// What a request through it must show. None for a Unix socket.
    pub(crate) network: Option<Network>,
}

/// What a request over TCP must show.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// One of them, as `Authorization: Bearer TOKEN`.
    pub(crate) tokens: Arc<Tokens>,
    /// One of them, as `Host`, to the letter: with the port, where it is not that of the scheme.
    pub(crate) hosts: Arc<[String]>,
}

impl Access {
    /// Whether a request may make a call that needs `role`.
    fn check(&self, headers: &HeaderMap, role: Role) -> Result<(), Problem> {
        let mut roles = self.roles;
        if let Some(network) = &self.network {
            let host = one(headers, &header::HOST).ok_or(Problem::Host)?;
            if !network.hosts.iter().any(|allowed| allowed == host) {
                return Err(Problem::Host);
            }
            check_origin(headers)?;
            roles = roles.and(network.tokens.roles_of(token(headers)?)?);
        }
        if roles.has(role) { Ok(()) } else { Err(Problem::Role) }
    }
}

/// A browser sends one of these headers when a page makes the call. No page may, because this service has
/// none.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    if headers.contains_key(header::ORIGIN) || site.is_some_and(|site| site != b"none") {
        return Err(Problem::CrossSite);
    }
    Ok(())
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    let credentials = one(headers, &header::AUTHORIZATION).ok_or(Problem::NoToken)?;
    let (scheme, token) = credentials.split_once(' ').ok_or(Problem::NoToken)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Problem::NoToken) }
}

/// The value of a header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Lets a request through to a route that needs `role`, if the listener that it came in through allows that.
/// A request without a listener is a program's that has mounted the router itself, and guards it.
pub(crate) async fn guard(
    State(role): State<Role>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(access) = request.extensions().get::<Access>() {
        access.check(request.headers(), role)?;
    }
    if role == Role::Admin {
        // For whoever asks later who removed what. It decides nothing: a container's user is not the
        // machine's.
        let uid = request.extensions().get::<Peer>().map(|peer| peer.0);
        tracing::info!(method = %request.method(), path = request.uri().path(), uid, "an administrator's call");
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn access() -> Access {
        let tokens =
            Tokens::of([("reader-0123456789abcdef", "read"), ("all-0123456789abcdef", "read,write,admin")]);
        let hosts = ["cache.internal:8080".to_owned(), "127.0.0.1:8080".to_owned()];
        let network = Network { tokens: Arc::new(tokens), hosts: hosts.into() };
        Access { roles: "read,write".parse().unwrap(), network: Some(network) }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:8080");
    const READER: (&str, &str) = ("authorization", "Bearer reader-0123456789abcdef");
    const ALL: (&str, &str) = ("authorization", "bearer all-0123456789abcdef");

    #[test]
    fn over_tcp_a_request_shows_a_token_and_a_host_and_comes_from_no_page() {
        for (lines, role, expected) in [
            (&[HOST, READER][..], Role::Read, Ok(())),
            (&[HOST, READER], Role::Write, Err(Problem::Role)),
            (&[HOST, ALL], Role::Write, Ok(())),
            (&[HOST, ALL], Role::Admin, Err(Problem::Role)),
            (&[HOST], Role::Read, Err(Problem::NoToken)),
            (&[HOST, ("authorization", "Basic cmVhZGVy")], Role::Read, Err(Problem::NoToken)),
            (
                &[HOST, ("authorization", "Bearer reader-0123456789abcdeX")],
                Role::Read,
                Err(Problem::WrongToken),
            ),
            (&[HOST, ("authorization", "Bearer ")], Role::Read, Err(Problem::WrongToken)),
            (&[HOST, READER, ALL], Role::Read, Err(Problem::NoToken)),
            (&[READER], Role::Read, Err(Problem::Host)),
            (&[("host", "evil.example"), READER], Role::Read, Err(Problem::Host)),
            (&[("host", "127.0.0.1"), READER], Role::Read, Err(Problem::Host)),
            (&[HOST, HOST, READER], Role::Read, Err(Problem::Host)),
            (&[HOST, READER, ("origin", "https://evil.example")], Role::Read, Err(Problem::CrossSite)),
            (&[HOST, READER, ("origin", "null")], Role::Read, Err(Problem::CrossSite)),
            (&[HOST, READER, ("sec-fetch-site", "cross-site")], Role::Read, Err(Problem::CrossSite)),
            (&[HOST, READER, ("sec-fetch-site", "same-site")], Role::Read, Err(Problem::CrossSite)),
            (&[HOST, READER, ("sec-fetch-site", "none")], Role::Read, Ok(())),
        ] {
            assert_eq!(access().check(&headers(lines), role), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_socket_is_guarded_by_its_mode_and_has_its_roles() {
        let access = Access { roles: "read".parse().unwrap(), network: None };
        assert_eq!(access.check(&headers(&[]), Role::Read), Ok(()));
        assert_eq!(access.check(&headers(&[ALL]), Role::Write), Err(Problem::Role));
    }
}
