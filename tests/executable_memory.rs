//! A process that may not make memory executable, as under systemd's `MemoryDenyWriteExecute=`.

use std::process::{Command, Output};

use support::service::connected;
use support::{Database, ID};

use crate::program::{Ended, program};

/// The command, started by a process that has given the right up (PR_SET_MDWE of prctl(2), Linux 6.3).
fn denied(arguments: &[&str], database: &Database) -> Command {
    const GIVE_UP: &str = "import ctypes, os, sys\n\
                           if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit(77)\n\
                           os.execv(sys.argv[1], sys.argv[1:])";
    let mut python = Command::new("python3");
    python.args(["-c", GIVE_UP]).arg(program().get_program()).args(arguments);
    python.env("DATABASE_URL", database.app_url());
    python
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Compiled, the component cannot run there, and the error says what can.
#[tokio::test]
async fn without_executable_memory_the_interpreter_runs_the_component() {
    let database = Database::new().await;
    let compiled = output(denied(&["get", ID], &database)).await;
    if compiled.status.code() == Some(77) {
        println!("SKIPPED: this kernel is older than Linux 6.3");
        return;
    }
    let error = String::from_utf8(compiled.stderr).unwrap();
    assert_eq!(compiled.status.code(), Some(3), "{error}");
    assert!(error.contains("--interpret"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cache.sock");
    let listen = format!("unix:{}", socket.display());
    let _serve = Ended(denied(&["serve", "--interpret", "--listen", &listen], &database).spawn().unwrap());
    let mut client = connected(&socket).await;
    let put = "PUT /v1/document?client_id=a&ticket=none&expires_in=60";
    assert_eq!(client.call(put, Some(r#"{"v":1}"#)).await.json()["outcome"], "stored");
    assert_eq!(client.call("GET /v1/document?client_id=a", None).await.json()["metadata"]["v"], 1);
}
