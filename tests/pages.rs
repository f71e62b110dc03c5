//! What the command says of itself, and of the component that it carries.

use std::io::Write;
use std::process::Stdio;

use cimd_cache::{COMPONENT, statements};
use support::json_of;

use crate::program::{command, parts, program};

#[tokio::test]
async fn the_component_and_its_statements_can_be_written_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cimd-cache.wasm");
    let (status, out, _) = parts(command(&["component", "--output", file.to_str().unwrap()], "").await);
    assert_eq!((status, out.as_str()), (0, ""));
    assert_eq!(std::fs::read(&file).unwrap(), COMPONENT);
    assert_eq!(command(&["component"], "").await.stdout, COMPONENT);

    let (status, out, _) = parts(command(&["component", "--statements"], "").await);
    assert_eq!(status, 0);
    let list = json_of(&out);
    let sql: Vec<_> =
        list.as_array().unwrap().iter().map(|statement| statement["sql"].as_str().unwrap()).collect();
    assert_eq!(sql, statements::ALL.map(|statement| statement.sql));
}

#[tokio::test]
async fn help_of_each_command_has_an_example() {
    for name in [
        "get",
        "put",
        "delete",
        "purge",
        "check",
        "sweep",
        "migrate",
        "component",
        "demo",
        "completions",
        "man",
    ] {
        let (status, out, _) = parts(command(&[name, "--help"], "").await);
        assert_eq!(status, 0);
        assert!(out.contains("Example") && out.contains(&format!("cimd-cache {name}")), "{out}");
    }
    let (_, version, _) = parts(command(&["--version"], "").await);
    assert_eq!(version, format!("cimd-cache {}\n", env!("CARGO_PKG_VERSION")));
    // The environment's URL has a password in it.
    let (_, out, _) = parts(command(&["--help"], "").await);
    assert!(out.contains("DATABASE_URL") && !out.contains("DATABASE_URL="), "{out}");
}

/// Every command that `--help` lists.
async fn commands() -> Vec<String> {
    let (_, help, _) = parts(command(&["--help"], "").await);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned));
    let names: Vec<_> = names.filter(|name| !name.is_empty() && name != "help").collect();
    assert!(names.len() > 8, "{help}");
    names
}

#[tokio::test]
async fn a_shell_completes_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (status, script, err) = parts(command(&["completions", shell], "").await);
        assert_eq!((status, err.as_str()), (0, ""));
        for name in commands().await {
            assert!(script.contains(&name), "{shell}: {name}");
        }
    }
    // A real shell completes it.
    let (_, script, _) = parts(command(&["completions", "bash"], "").await);
    let ask = "COMP_WORDS=(cimd-cache pu); COMP_CWORD=1; set -- $(complete -p cimd-cache)
        while [ \"$1\" != -F ]; do shift; done; \"$2\" cimd-cache pu cimd-cache; echo ${COMPREPLY[@]}";
    let bash = tokio::task::spawn_blocking(move || {
        let mut bash = std::process::Command::new("bash");
        let mut bash =
            bash.args(["--norc", "-s"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(format!("{script}\n{ask}\n").as_bytes()).unwrap();
        bash.wait_with_output().unwrap()
    });
    assert_eq!(String::from_utf8(bash.await.unwrap().stdout).unwrap(), "put purge\n");
}

#[tokio::test]
async fn each_command_has_a_man_page_without_what_the_environment_says() {
    let page = |arguments: Vec<String>| async move {
        let output = tokio::task::spawn_blocking(move || {
            program()
                .args(arguments)
                .env("DATABASE_URL", "postgres://alice:hunter2@db.example/d")
                .output()
                .unwrap()
        });
        let (status, page, err) = parts(output.await.unwrap());
        assert_eq!((status, err.as_str(), page.contains("hunter2")), (0, "", false));
        page
    };
    let main = page(vec!["man".to_owned()]).await;
    assert!(main.contains(".TH cimd-cache 1"), "{main}");
    for name in commands().await {
        assert!(main.contains(&format!("cimd\\-cache\\-{name}(1)")), "{name}: {main}");
        let its = page(vec!["man".to_owned(), name.clone()]).await;
        assert!(its.contains(".SH SYNOPSIS") && its.contains(&format!("cimd\\-cache {name}")), "{its}");
    }
}
