//! The way to the database: encrypted to the server that was named, or refused before anything was said. And passwords:
//! where they are taken from, and that they turn up nowhere else.
//!
//! The URLs name `db.example`, which is no machine's name, and lead to 127.0.0.1 by `hostaddr`: that does not count as
//! loopback.

mod authority;
mod middle;
mod server;

use std::fs::{Permissions, set_permissions, write};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use cimd_cache::{Cache, CheckError, ConnectError, Error};

use self::authority::{Authority, NAME};
use self::middle::{Behaviour, Middle};
use self::server::{PASSWORD, Server, server, url};
use support::{HOUR, ID, Log, document, hit, one};

use crate::program::program;

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

/// What a check and a get say where they may not get through, and the log, in which there must be no password.
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
    let folder = tempfile::tempdir().unwrap();
    let others = folder.path().join("others.pem");
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
async fn who_says_that_there_is_no_encryption_learns_nothing() {
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
async fn what_is_slipped_in_before_the_encryption_is_not_taken_for_an_answer() {
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
async fn a_login_needs_the_right_password() {
    let server = server().await;
    let roots = server.roots();
    let url = |login| url(login, NAME, server.port, Some(&roots), "");
    node(&url("cimd_cache_app:hunter2")).get(ID).await.unwrap();
    let log = turned_away(&url("cimd_cache_app:hunter3")).await;
    assert!(log.contains("28P01") && !log.contains("hunter3"), "{log}");
    turned_away(&url("cimd_cache_app")).await;
    turned_away(&url("nobody:hunter2")).await;
}

#[tokio::test]
async fn who_decrypts_with_a_trusted_certificate_is_found_out_by_channel_binding() {
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

#[tokio::test]
async fn a_password_that_is_changed_in_its_file_is_used_without_a_restart() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords");
    let line =
        |password| format!("# of the cache\n{NAME}:{}:postgres:cimd_cache_app:{password}\n", server.port);
    write_private(&file, &line("outdated"));
    let options = format!("&passfile={}", file.display());
    let node = node(&url("cimd_cache_app", NAME, server.port, Some(&server.roots()), &options));
    assert_eq!(node.check().await, Err(CheckError::Connection(ConnectError::Login)));
    write_private(&file, &line(PASSWORD));
    assert_eq!(node.check().await.map(|found| found.role), Ok("cimd_cache_app".to_owned()));
}

/// A command with a password from somewhere else than the URL, and what it prints with `--verbose`.
#[tokio::test]
async fn the_command_takes_a_password_from_its_environment_or_a_file_and_shows_it_nowhere() {
    let server = server().await;
    let home = tempfile::tempdir().unwrap();
    let (default, other, open) =
        (home.path().join(".pgpass"), home.path().join("other"), home.path().join("open"));
    write_private(&default, &format!("*:*:*:*:{PASSWORD}"));
    write_private(&other, "*:*:*:*:outdated");
    write(&open, format!("*:*:*:*:{PASSWORD}")).unwrap();
    set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let run = |options: String, environment: Vec<(&'static str, String)>| {
        let url = url("cimd_cache_app", NAME, server.port, Some(&server.roots()), &options);
        let home = home.path().to_owned();
        let run = move || {
            let mut command = program();
            command.args(["--verbose", "put", ID, "-", "--expires-in", "60"]);
            command.env("DATABASE_URL", url).env("HOME", home).envs(environment);
            let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // It is there until it has read its input.
            let arguments = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
            child.stdin.take().unwrap().write_all(b"{}").unwrap();
            let output = child.wait_with_output().unwrap();
            let shown = [arguments, output.stdout, output.stderr].concat();
            (output.status.code().unwrap(), String::from_utf8(shown).unwrap())
        };
        tokio::task::spawn_blocking(run)
    };
    let text = |path: &Path| path.display().to_string();
    let passfile = |path: &Path| format!("&passfile={}", path.display());
    for (options, environment, status) in [
        (String::new(), vec![], 0),
        (passfile(&other), vec![], 3),
        (String::new(), vec![("PGPASSFILE", text(&other))], 3),
        (passfile(&default), vec![("PGPASSFILE", text(&other))], 0),
        (passfile(&other), vec![("PGPASSWORD", PASSWORD.to_owned())], 0),
        (passfile(&open), vec![], 3),
    ] {
        let case = format!("{options} {environment:?}");
        let (found, shown) = run(options, environment).await.unwrap();
        assert_eq!(found, status, "{case}: {shown}");
        assert!(!shown.contains(PASSWORD) && !shown.contains("outdated"), "{case}: {shown}");
        assert_eq!(shown.contains("chmod 600"), case.contains("open"), "{case}: {shown}");
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

/// A server that wants to see a certificate, in both ways in which Postgres can be told to.
#[tokio::test]
async fn a_client_certificate_is_shown_and_is_the_only_way_in_where_one_is_asked_for() {
    let authority = Arc::new(Authority::new("an authority"));
    let server = Server::start(authority.clone(), 4000).await;
    let folder = tempfile::tempdir().unwrap();
    // The certificate and key of somebody, in files as URLs name them.
    let shown = |name: &str, authority: &Authority, common_name: &str| {
        let identity = authority.issue_to_client(common_name);
        let (certificate, key) =
            (folder.path().join(format!("{name}.crt")), folder.path().join(format!("{name}.key")));
        write(&certificate, identity.certificate_pem()).unwrap();
        write(&key, identity.key_pem()).unwrap();
        set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        format!("&sslcert={}&sslkey={}", certificate.display(), key.display())
    };
    let right = shown("right", &authority, "cimd_cache_app");
    let other_name = shown("other-name", &authority, "somebody");
    let others = shown("others", &Authority::new("another authority"), "cimd_cache_app");
    // With a password beside it, the server does not say which of the two was wrong.
    for (line, on_other_name) in [
        ("hostssl all all 127.0.0.1/32 cert", CheckError::Connection(ConnectError::ClientCertificate)),
        (
            "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
            CheckError::Connection(ConnectError::Login),
        ),
    ] {
        server.admit(line).await;
        let node = node(&server.url(&right));
        node.check().await.unwrap();
        node.put(ID, &document(1), HOUR, None).await.unwrap();
        hit(&node, ID).await;
        for (options, why) in [
            ("", CheckError::Connection(ConnectError::ClientCertificate)),
            (&other_name, on_other_name),
            (&others, CheckError::Connection(ConnectError::ClientCertificate)),
        ] {
            let (check, get, log) = refused(&server.url(options)).await;
            assert_eq!(check, why, "{line} {options}: {log}");
            assert!(matches!(get, Error::Storage | Error::Unavailable), "{get}");
            assert!(!log.contains("PRIVATE KEY"), "{log}");
        }
    }
    // A key that others could read is no secret: said when the cache is built, by the name of the file.
    let key = folder.path().join("right.key");
    for (mode, usable) in [(0o644, false), (0o620, false), (0o660, false), (0o600, true), (0o400, true)] {
        set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let built = Cache::builder().database_url(&server.url(&right)).build();
        assert_eq!(built.is_ok(), usable, "{mode:o}");
        if let Err(error) = built {
            let text = error.to_string();
            assert!(text.contains("right.key") && text.contains("chmod 600"), "{text}");
        }
    }
    write(&key, "no key").unwrap();
    let error = Cache::builder().database_url(&server.url(&right)).build().unwrap_err().to_string();
    assert!(error.contains("has no private key"), "{error}");
}
