//! Who may call: by a socket's mode, and over TCP by token and host.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cimd_cache::Cache;
use cimd_cache_service::{Roles, Settings, serve};
use support::Database;
use support::http::{Answer, Client};
use support::service::{Service, free_port, listen, write_secret};
use tokio::net::TcpStream;

use super::{ENCODED, get};

/// A port can be reached by everybody on the machine, and through a browser by every page.
#[tokio::test]
async fn over_tcp_a_call_needs_a_token_a_host_and_its_role() {
    let database = Database::new().await;
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "an-old-token-0123456789\na-new-token-0123456789\n").unwrap();
    let free = free_port().await;
    let file = (tokens.path().to_owned(), "read,write".parse().unwrap());
    let service = Service::start_with(&database, |mut settings| {
        settings.listen.push(format!("tcp:{free}").parse().unwrap());
        settings.token_files = vec![file];
        settings
    })
    .await;
    let ask = async |method: &str, headers: &str| -> Answer {
        let mut client = Client::new(TcpStream::connect(free).await.unwrap());
        client.send(&format!("{method}?client_id=a HTTP/1.1\r\n{headers}\r\n")).await
    };
    let (host, token) = (format!("Host: {free}\r\n"), "Authorization: Bearer a-new-token-0123456789\r\n");
    let both = format!("{host}{token}");
    assert_eq!(ask("GET /v1/document", &both).await.status, 200);
    assert_eq!(
        ask("GET /v1/document", &both.replace("new", "old").replace("a-old", "an-old")).await.status,
        200
    );
    for (method, headers, status, code) in [
        ("GET /v1/document", host.clone(), 401, "no-token"),
        ("GET /v1/document", both.replace("new", "bad"), 401, "wrong-token"),
        ("GET /v1/document", format!("Host: evil.example\r\n{token}"), 421, "host"),
        ("GET /v1/document", format!("{both}Origin: https://evil.example\r\n"), 403, "cross-site"),
        ("GET /v1/document", format!("{both}Sec-Fetch-Site: cross-site\r\n"), 403, "cross-site"),
        ("DELETE /v1/document", both.clone(), 403, "role"),
    ] {
        assert_eq!(ask(method, &headers).await.problem(), (status, code.to_owned()), "{headers}");
    }
    service.stop().await;
}

/// The mode of the socket is what lets somebody connect; one that is in use is not taken away; one left
/// behind is replaced.
#[tokio::test]
async fn a_socket_has_its_mode_and_is_taken_from_nobody() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mode = std::fs::metadata(service.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let again = async |directory: &Path| {
        let mut settings = Settings::default();
        settings.listen = vec![listen(directory, "")];
        let cache = Cache::builder().database_url(&database.app_url()).build().unwrap();
        serve(cache, settings, || {}, async {}).await
    };
    let taken = again(service.socket().parent().unwrap()).await.unwrap_err();
    assert!(taken.to_string().starts_with("cannot listen on unix:"), "{taken}");
    assert_eq!(service.client().await.call(&get(ENCODED), None).await.status, 200);
    service.stop().await;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    again(directory.path()).await.unwrap();
    std::fs::write(&path, "no socket").unwrap();
    again(directory.path()).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no socket");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
}

/// While tokens are rotated as the manual says, no call is refused; afterwards the old one is.
#[tokio::test]
async fn a_token_is_rotated_without_a_call_that_is_refused() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    let (old, new) = ("the-old-token-0123456789", "the-new-token-9876543210");
    write_secret(&file, &format!("{old}\n"));
    let free = free_port().await;
    let service = Service::start_with(&database, |mut settings| {
        settings.listen.push(format!("tcp:{free}").parse().unwrap());
        settings.token_files = vec![(file.clone(), Roles::ALL)];
        settings
    })
    .await;
    let status = async |token: &str| {
        let mut client = Client::new(TcpStream::connect(free).await.unwrap());
        let head = format!("Host: {free}\r\nAuthorization: Bearer {token}\r\n\r\n");
        client.send(&format!("GET /v1/document?client_id=a HTTP/1.1\r\n{head}")).await.status
    };
    assert_eq!((status(old).await, status(new).await), (200, 401));
    write_secret(&file, &format!("{old}\n{new}\n"));
    while status(new).await != 200 {
        assert_eq!(status(old).await, 200);
    }
    assert_eq!(status(old).await, 200);
    write_secret(&file, &format!("{new}\n"));
    while status(old).await != 401 {
        assert_eq!(status(new).await, 200);
    }
    assert_eq!(status(new).await, 200);
    service.stop().await;
}
