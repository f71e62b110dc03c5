//! The way to the database: encrypted to the server that was named, or refused before anything was said. And
//! passwords: where they are taken from, and that they turn up nowhere else.
//!
//! The URLs name `db.example`, which is no machine's name, and lead to 127.0.0.1 by `hostaddr`: that does not
//! count as loopback.

pub(crate) mod authority;
mod certificates;
mod middle;
mod passwords;
mod server;

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cimd_cache::{Cache, CheckError, ConnectError, Error};

use self::authority::{Authority, NAME};
use self::middle::{Behaviour, Middle};
use self::server::{PASSWORD, Server, server, url};
use support::{HOUR, ID, Log, document, hit, one};

/// What a URL may say about encryption, other than that there is to be none.
const MODES: [&str; 4] = ["", "&sslmode=require", "&sslmode=verify-ca", "&sslmode=verify-full"];

fn node(url: &str) -> Cache {
    Cache::builder().database_url(url).deadline(Duration::from_secs(10)).build().unwrap()
}

/// Of the connections of an application, how many the server says are encrypted, and how many there are.
async fn encrypted(server: &Server, application: &str) -> (i64, i64) {
    let sql =
        "select count(*) filter (where ssl), count(*) from pg_stat_ssl join pg_stat_activity using (pid)
               where application_name = $1";
    let row = server.admin().await.query_one(sql, &[&application]).await.unwrap();
    (row.get(0), row.get(1))
}

/// What a check and a get say where they may not get through, and the log, in which there must be no
/// password.
async fn refused(url: &str) -> (CheckError, Error, String) {
    let log = Log::default();
    let listening = log.listen();
    let node = node(url);
    let (check, get) = (node.check().await, node.get(ID).await);
    drop(listening);
    let log = log.text();
    let (Err(check), Err(get)) = (check, get) else { panic!("{url}: not refused: {log}") };
    let shown =
        format!("{log} {check} {check:?} {get} {get:?} {node:?} {:?}", Cache::builder().database_url(url));
    assert!(!shown.contains(PASSWORD), "{url}: {shown}");
    (check, get, log)
}

/// That there is no way through, and what the log says of it.
async fn unavailable(url: &str) -> String {
    unavailable_for(url, CheckError::Connection(ConnectError::Unavailable)).await
}

/// The same, where a check knows why.
async fn unavailable_for(url: &str, why: CheckError) -> String {
    let (check, get, log) = refused(url).await;
    assert_eq!((check, get), (why, Error::Unavailable), "{url}: {log}");
    log
}

/// That the server said no to the login.
async fn turned_away(url: &str) -> String {
    let (check, get, log) = refused(url).await;
    assert_eq!((check, get), (CheckError::Connection(ConnectError::Login), Error::Storage), "{url}: {log}");
    log
}

#[tokio::test]
async fn over_a_network_everything_is_encrypted_whatever_the_mode() {
    let server = server().await;
    for (number, mode) in MODES.iter().enumerate() {
        let name = format!("encrypted-{number}");
        let node = node(&server.url(&format!("{mode}&application_name={name}")));
        node.put(ID, &document(1), HOUR, None).await.unwrap();
        hit(&node, ID).await;
        assert_eq!(encrypted(server, &name).await, (2, 2), "{mode}");
    }
}

#[tokio::test]
async fn plaintext_over_a_network_is_had_by_asking_for_it() {
    let server = server().await;
    let login = format!("cimd_cache_app:{PASSWORD}");
    let asked = "&sslmode=disable&application_name=plain";
    let node = node(&url(&login, NAME, server.port, None, asked));
    node.get(ID).await.unwrap();
    assert_eq!(encrypted(server, "plain").await, (0, 1));
}

#[tokio::test]
async fn a_server_that_does_not_prove_its_name_is_not_talked_to() {
    let server = server().await;
    let login = format!("cimd_cache_app:{PASSWORD}");
    let expired = Server::start(server.authority.clone(), 2020).await;
    let directory = tempfile::tempdir().unwrap();
    let others = directory.path().join("others.pem");
    write(&others, Authority::new("another authority").pem()).unwrap();
    for mode in MODES {
        for (url, why) in [
            (
                url(&login, NAME, server.port, Some(&others), mode),
                CheckError::Connection(ConnectError::Untrusted),
            ),
            // The system's.
            (url(&login, NAME, server.port, None, mode), CheckError::Connection(ConnectError::Untrusted)),
            (
                url(&login, "other.example", server.port, Some(&server.roots()), mode),
                CheckError::Connection(ConnectError::OtherName),
            ),
            (expired.url(mode), CheckError::Connection(ConnectError::OutOfDate)),
        ] {
            unavailable_for(&url, why).await;
        }
    }
}

#[tokio::test]
async fn an_attacker_that_denies_encryption_learns_nothing() {
    let server = server().await;
    let answers = [b"E\0\0\0\x0bSFATAL\0\0", &b"G"[..], b"R\0\0\0\x08\0\0\0\0"].map(|answer| ("", answer));
    for (mode, answer) in MODES.map(|mode| (mode, &b"N"[..])).into_iter().chain(answers) {
        let mut middle = Middle::start(server.authority.clone(), Behaviour::Answers(answer)).await;
        unavailable_for(
            &server.url_by_way_of(middle.port, mode),
            CheckError::Connection(ConnectError::NoTls),
        )
        .await;
        // Of the check, and of the get.
        assert_eq!((middle.heard().await, middle.heard().await), (vec![], vec![]), "{mode} {answer:?}");
    }
}

/// What stands in plaintext behind the word that encryption begins is no server's (CVE-2021-23222).
#[tokio::test]
async fn bytes_injected_before_the_encryption_are_not_taken_for_an_answer() {
    let server = server().await;
    let login_accepted = b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    let mut middle = Middle::start(server.authority.clone(), Behaviour::Answers(login_accepted)).await;
    unavailable(&server.url_by_way_of(middle.port, "")).await;
    let heard = middle.heard().await;
    // The beginning of a TLS handshake.
    assert_eq!(heard[..2], [22, 3]);
    assert!(!contains(&heard, b"cimd_cache_app"));
}

#[tokio::test]
async fn channel_binding_detects_a_proxy_with_a_trusted_certificate() {
    let server = server().await;
    let middle = Middle::start(server.authority.clone(), Behaviour::PassesOnEncrypted(server.port)).await;
    let log = turned_away(&server.url_by_way_of(middle.port, "")).await;
    assert!(log.contains("channel binding"), "{log}");
    turned_away(&server.url_by_way_of(middle.port, "&channel_binding=require")).await;
    // Else everything is in order.
    node(&server.url_by_way_of(middle.port, "&channel_binding=disable")).get(ID).await.unwrap();
}

/// Where the server cannot offer it, as behind a proxy that ends TLS, it is left out; unless it was required.
#[tokio::test]
async fn channel_binding_that_is_required_is_had_or_there_is_no_login() {
    let server = server().await;
    let required = "&channel_binding=require";
    node(&server.url(required)).get(ID).await.unwrap();

    let middle = Middle::start(server.authority.clone(), Behaviour::PassesOnPlain(server.port)).await;
    node(&server.url_by_way_of(middle.port, "")).get(ID).await.unwrap();
    let log = unavailable(&server.url_by_way_of(middle.port, required)).await;
    assert!(log.contains("did not use channel binding"), "{log}");

    // As if it were the server: it lets in, asks for the password, or for its hash.
    for greeting in [&b"R\0\0\0\x08\0\0\0\0"[..], b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x0c\0\0\0\x05salt"] {
        let mut middle = Middle::start(server.authority.clone(), Behaviour::Greets(greeting)).await;
        unavailable(&server.url_by_way_of(middle.port, required)).await;
        assert!(middle.heard().await.is_empty(), "{greeting:?}");
    }
}

fn write_private(file: &Path, text: &str) {
    write(file, text).unwrap();
    set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What does not pass by waiting is not said to.
#[tokio::test]
async fn a_check_tells_what_waiting_does_not_mend() {
    let database = support::Database::new().await;
    let (address, _) = database.tunnel().await;
    let port = address.rsplit(':').next().unwrap().split('/').next().unwrap();
    // A server that listens without encryption.
    let plain = format!("postgres://cimd_cache_app@{NAME}:{port}/{}?hostaddr=127.0.0.1", database.name);
    let roots = server().await.roots();
    let plain = format!("{plain}&sslrootcert={}", roots.display());
    assert_eq!(node(&plain).check().await, Err(CheckError::Connection(ConnectError::NoTls)));
    let nowhere = "postgres://u@no-such-host.invalid/d?sslmode=disable";
    assert_eq!(node(nowhere).check().await, Err(CheckError::Connection(ConnectError::HostName)));
    let server = server().await;
    let no_line = server.url("&dbname=template1");
    assert_eq!(node(&no_line).check().await, Err(CheckError::Connection(ConnectError::NoEntry)));
    for wanted in ["standby", "read-only"] {
        let primary = server.url(&format!("&target_session_attrs={wanted}"));
        assert_eq!(
            node(&primary).check().await,
            Err(CheckError::Connection(ConnectError::NotReadOnly)),
            "{wanted}"
        );
    }
    // Nothing that a certificate of ours could mend.
    let old = Server::start(server.authority.clone(), 4000).await;
    let admin = old.admin().await;
    let limit = "alter system set ssl_max_protocol_version = 'TLSv1.2'";
    admin.batch_execute(limit).await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    let setting = "select current_setting('ssl_max_protocol_version')";
    while one::<String>(&admin, setting, &[]).await != "TLSv1.2" {}
    let newer = old.url("&ssl_min_protocol_version=TLSv1.3");
    assert_eq!(node(&newer).check().await, Err(CheckError::Connection(ConnectError::TlsVersion)));
    node(&old.url("")).check().await.unwrap();
    for error in [
        CheckError::Connection(ConnectError::NoTls),
        CheckError::Connection(ConnectError::HostName),
        CheckError::Connection(ConnectError::NoEntry),
        CheckError::Connection(ConnectError::Untrusted),
    ] {
        assert!(!error.to_string().contains("again"), "{error}");
    }
}
