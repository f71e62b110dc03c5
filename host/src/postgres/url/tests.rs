use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};

use super::*;

fn read(url: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    url.parse()
}

fn refusal(url: &str) -> String {
    read(url).expect_err(url).to_string()
}

fn verified(roots: Option<&str>) -> Tls {
    Tls::Verified(Verification { roots: roots.map(PathBuf::from), ..Verification::default() })
}

#[test]
fn a_network_is_crossed_encrypted_unless_the_url_says_otherwise() {
    for (url, expected) in [
        ("postgres://u:p@db.example/d", verified(None)),
        ("postgres://u:p@db.example/d?sslmode=require", verified(None)),
        ("postgres://u:p@db.example/d?ssl=true", verified(None)),
        ("postgres://u@localhost,db.example/d", verified(None)),
        ("postgres://u@localhost/d?host=db.example", verified(None)),
        ("postgres://u@10.0.0.1/d?sslmode=verify-full&sslrootcert=/ca.pem", verified(Some("/ca.pem"))),
        ("postgres://u@10.0.0.1/d?sslrootcert=system", verified(None)),
        ("postgres://u@127.0.0.1/d?sslmode=verify-ca", verified(None)),
        ("postgres://u@localhost/d?hostaddr=10.0.0.1", verified(None)),
        ("postgres://u@localhost/d?channel_binding=require", verified(None)),
        ("postgres://u@db.example/d?sslmode=disable", Tls::Off),
        ("postgres://u@localhost/d", Tls::Off),
        ("postgres://u@127.0.0.1/d", Tls::Off),
        ("postgres://u@[::1]:5433/d", Tls::Off),
        ("postgres://u@%2Fvar%2Frun%2Fpostgresql/d", Tls::Off),
        ("postgresql:///d?host=/var/run/postgresql", Tls::Off),
    ] {
        let url = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(url.tls, expected, "{url:?}");
        assert_eq!(url.config.get_ssl_mode() == SslMode::Disable, expected == Tls::Off, "{url:?}");
    }
}

#[test]
fn white_space_around_a_url_is_not_part_of_it() {
    for url in ["postgres://u@localhost/d\n", " \tpostgres://u@localhost/d?sslmode=disable\r\n"] {
        assert_eq!(read(url).unwrap().config.get_dbname(), Some("d"), "{url:?}");
    }
    for nothing in ["", "\n"] {
        assert_eq!(read(nothing).unwrap_err(), DatabaseUrlError::Empty);
    }
}

#[test]
fn options_say_the_same_as_what_stands_in_front_of_them_and_go_before_it() {
    let hosts = |url: &str| {
        let config = read(url).unwrap_or_else(|error| panic!("{url}: {error}")).config;
        let hosts = config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(directory) => directory.display().to_string(),
        });
        (hosts.collect::<Vec<_>>().join(" "), config.get_ports().to_vec())
    };
    let expected = |hosts: &str, ports: &[u16]| (hosts.to_owned(), ports.to_vec());
    for (url, found) in [
        ("postgres://u@a:1,b:2/d", expected("a b", &[1, 2])),
        ("postgres://u@a,b:2/d", expected("a b", &[5432, 2])),
        ("postgres://u@[fe80::1]:7,b/d", expected("fe80::1 b", &[7, 5432])),
        ("postgres://u@/d?host=a,b&port=1,2", expected("a b", &[1, 2])),
        ("postgres:///d?host=a,b&port=7", expected("a b", &[7])),
        ("postgres:///d?host=a,/tmp", expected("a /tmp", &[])),
        ("postgres://u@a/d?port=7", expected("a", &[7])),
        ("postgres://u@a:1/d?port=7&host=b", expected("b", &[7])),
    ] {
        assert_eq!(hosts(url), found, "{url}");
    }
    let url = "postgres://u:p@a/d?user=v%40w&password=q%2Fr&dbname=e&application_name=a%2Bb+c&options=-c%20geqo%3Doff";
    let config = read(url).unwrap().config;
    assert_eq!((config.get_user(), config.get_password()), (Some("v@w"), Some(&b"q/r"[..])));
    assert_eq!((config.get_dbname(), config.get_application_name()), (Some("e"), Some("a+b+c")));
    assert_eq!(config.get_options(), Some("-c geqo=off"));
}

#[test]
fn times_are_in_libpq_s_units() {
    let plain = read("postgres://u@localhost/d").unwrap().config;
    assert_eq!((plain.get_keepalives_idle(), plain.get_connect_timeout()), (Duration::from_secs(30), None));
    let url = "postgres://u@localhost/d?connect_timeout=7&tcp_user_timeout=1500&keepalives_idle=8&keepalives_count=2\
               &keepalives_interval=3";
    let config = read(url).unwrap().config;
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1_500)));
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(8));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(3)));
    assert_eq!(config.get_keepalives_retries(), Some(2));
    assert!(
        !read("postgres://u@localhost/d?keepalives=0&connect_timeout=0").unwrap().config.get_keepalives()
    );
}

#[test]
fn the_server_that_is_wanted_is_one_that_takes_writes_unless_the_url_says_otherwise() {
    for (option, expected) in [
        ("", Wanted::ReadWrite),
        ("?target_session_attrs=any", Wanted::Any),
        ("?target_session_attrs=read-write", Wanted::ReadWrite),
        ("?target_session_attrs=read-only", Wanted::ReadOnly),
        ("?target_session_attrs=primary", Wanted::Primary),
        ("?target_session_attrs=standby", Wanted::Standby),
        ("?target_session_attrs=prefer-standby", Wanted::PreferStandby),
    ] {
        assert_eq!(read(&format!("postgres://u@a,b/d{option}")).unwrap().wanted, expected);
    }
}

/// All of libpq's (PostgreSQL 13 to 18, 34.1.2), with a value that it takes: at work, or refused by name.
#[test]
fn each_of_libpq_s_options_is_known() {
    for (option, is_supported) in [
        ("host=a", true),
        ("hostaddr=10.0.0.1", true),
        ("port=7", true),
        ("dbname=d", true),
        ("user=u", true),
        ("password=p", true),
        ("passfile=/f", true),
        ("require_auth=scram-sha-256", false),
        ("channel_binding=require", true),
        ("connect_timeout=1", true),
        ("client_encoding=utf8", true),
        ("client_encoding=LATIN1", false),
        ("options=-cgeqo%3Doff", true),
        ("application_name=n", true),
        ("fallback_application_name=n", true),
        ("keepalives=1", true),
        ("keepalives_idle=1", true),
        ("keepalives_interval=1", true),
        ("keepalives_count=1", true),
        ("tcp_user_timeout=1", true),
        ("replication=false", true),
        ("replication=database", false),
        ("gssencmode=disable", true),
        ("gssencmode=prefer", true),
        ("gssencmode=require", false),
        ("sslmode=verify-full", true),
        ("sslmode=prefer", false),
        ("sslmode=allow", false),
        ("sslmode=", false),
        ("requiressl=1", false),
        ("sslnegotiation=postgres", true),
        ("sslnegotiation=direct", false),
        ("sslcompression=0", true),
        ("sslcompression=1", false),
        ("sslkeylogfile=/f", false),
        ("sslpassword=s", false),
        ("sslcertmode=allow", true),
        ("sslcertmode=require", false),
        ("sslrootcert=/f", true),
        ("sslcrl=/f", false),
        ("sslcrldir=/f", false),
        ("sslsni=1", true),
        ("sslsni=0", false),
        ("requirepeer=postgres", false),
        ("ssl_min_protocol_version=TLSv1.2", true),
        ("ssl_min_protocol_version=TLSv1.4", false),
        ("ssl_max_protocol_version=TLSv1.3", true),
        ("ssl_max_protocol_version=TLSv1.1", false),
        ("min_protocol_version=3.0", true),
        ("min_protocol_version=3.2", false),
        ("max_protocol_version=latest", true),
        ("krbsrvname=postgres", false),
        ("gsslib=gssapi", false),
        ("gssdelegation=0", true),
        ("gssdelegation=1", false),
        ("scram_client_key=s", false),
        ("scram_server_key=s", false),
        ("service=s", false),
        ("servicefile=/f", false),
        ("target_session_attrs=any", true),
        ("target_session_attrs=master", false),
        ("load_balance_hosts=random", true),
        ("load_balance_hosts=round-robin", false),
        ("oauth_issuer=s", false),
        ("oauth_client_id=s", false),
        ("oauth_client_secret=s", false),
        ("oauth_scope=s", false),
        ("connect_timeout=soon", false),
        ("tcp_user_timeout=1.5", false),
        ("keepalives=yes", false),
        ("hostaddr=db.example", false),
        ("ssl=false", false),
    ] {
        let name = option.split('=').next().unwrap();
        match read(&format!("postgres://u@db.example/d?{option}")) {
            Ok(_) => assert!(is_supported, "{option} is taken"),
            Err(error) => {
                let text = error.to_string();
                let named = [" ", ","].iter().any(|end| text.contains(&format!("option {name}{end}")));
                assert!(!is_supported && named, "{option}: {text}");
                assert!(!text.contains("unknown") && !text.contains("%"), "{option}: {text}");
            }
        }
    }
    let both = read("postgres://u@db.example/d?sslcert=/c&sslkey=/k").unwrap().tls;
    let identity = Some(Identity { certificate: "/c".into(), key: "/k".into() });
    assert_eq!(both, Tls::Verified(Verification { identity, ..Verification::default() }));
    assert_eq!(
        read("postgres://u@db.example/d?sslcert=/c&sslkey=/k&sslcertmode=disable").unwrap().tls,
        verified(None)
    );
}

#[test]
fn what_other_programs_add_is_named_as_unknown() {
    for name in
        ["pgbouncer", "sslaccept", "connection_limit", "pool_timeout", "statement_cache_size", "Sslmode"]
    {
        let text = refusal(&format!("postgres://u:hunter2@localhost/d?{name}=true"));
        assert!(text.contains(&format!("option {name},")) && text.contains("unknown"), "{text}");
    }
    assert!(refusal("postgres://u@localhost/d?schema=s").contains("--schema"));
}

#[test]
fn each_mistake_has_a_sentence_of_its_own() {
    let half = |given, missing| DatabaseUrlError::HalfIdentity { given, missing };
    let plaintext = |name| DatabaseUrlError::Plaintext { name };
    for (url, expected) in [
        ("mysql://u@localhost/d", DatabaseUrlError::Scheme),
        ("host=localhost", DatabaseUrlError::Scheme),
        ("postgres:///d", DatabaseUrlError::Host),
        ("postgres://u@a,/d", DatabaseUrlError::Host),
        ("postgres://u@[::1/d", DatabaseUrlError::Host),
        ("postgres://u@localhost:port/d", DatabaseUrlError::Port),
        ("postgres://u@localhost:0/d", DatabaseUrlError::Port),
        ("postgres://u@localhost:65536/d", DatabaseUrlError::Port),
        ("postgres://u@[::1]5432/d", DatabaseUrlError::Port),
        ("postgres://u@a,b/d?hostaddr=10.0.0.1", DatabaseUrlError::Count),
        ("postgres://u@a,b,c/d?port=1,2", DatabaseUrlError::Count),
        ("postgres://u:100%@localhost/d", DatabaseUrlError::Percent),
        ("postgres://u:%zz@localhost/d", DatabaseUrlError::Percent),
        ("postgres://u:%+1@localhost/d", DatabaseUrlError::Percent),
        ("postgres://u%ff@localhost/d", DatabaseUrlError::Text),
        ("postgres://u@localhost/%00", DatabaseUrlError::Text),
        ("postgres://u:p@ss@localhost/d", DatabaseUrlError::Login),
        ("postgres://u:hunter?2=3@localhost/d", DatabaseUrlError::Login),
        ("postgres://u@localhost/d?sslmode", DatabaseUrlError::NoValue),
        ("postgres://u@localhost/d?a%20b=c", DatabaseUrlError::NoValue),
        ("postgres://u@localhost/d?sslmode=prefer", DatabaseUrlError::SslMode),
        (
            "postgres://u@localhost/d?sslmode=disable&channel_binding=require",
            DatabaseUrlError::ChannelBinding,
        ),
        ("postgres://u@a/d?sslcert=/c", half("sslcert", "sslkey")),
        ("postgres://u@a/d?sslkey=/k", half("sslkey", "sslcert")),
        ("postgres://u@localhost/d?sslrootcert=/c", plaintext("sslrootcert")),
        ("postgres://u@a/d?sslmode=disable&sslcert=/c&sslkey=/k", plaintext("sslcert")),
        ("postgres://u@%2Ftmp/d?ssl_min_protocol_version=TLSv1.3", plaintext("ssl_min_protocol_version")),
    ] {
        assert_eq!(read(url).expect_err(url), expected, "{url}");
    }
}

#[test]
fn neither_refusals_nor_debug_output_repeat_what_may_be_secret() {
    for url in [
        "postgres://alice:hunter2%@localhost/d",
        "postgres://alice:hunter2@localhost:hunter2/d",
        "postgres://alice:p?hunter2=x@localhost/d",
        "postgres://alice:p?hunter2@localhost/d",
        "postgres://alice:p@hunter2@localhost/d",
        "postgres://alice@localhost/d?hunter2",
        "postgres://alice@localhost/d?sslpassword=hunter2",
        "postgres://alice@localhost/d?hunter2%3Db=c",
        "postgres://alice@localhost/d?sslmode=hunter2",
        "postgres://alice@localhost/d?port=hunter2",
    ] {
        let error = read(url).expect_err(url);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("alice") && !shown.contains("hunter2"), "{url}: {shown}");
    }
    let url = read("postgres://alice:hunter2@localhost/d").unwrap();
    let shown = format!("{url:?}");
    assert!(!shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}
