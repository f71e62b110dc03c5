//! The disk that the table is on is full.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cimd_cache_simulator::history::CallFailure;

use crate::load::Load;
use crate::node::Way;
use crate::scene::{Allowed, Scene, Setting};

/// A small file system, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this process may not mount anything.
    fn mount() -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("cimd-cache-disk-").tempdir_in("/tmp").unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(directory.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_go_on_while_the_disk_is_full_and_puts_are_storage() {
    a_full_disk("disk full for 4 s", Way::Library).await;
}

/// The table is on the full disk and the write-ahead log is not: where that is on it too, Postgres stops, and
/// comes back when it is started with room.
pub(crate) async fn a_full_disk(name: &'static str, way: Way) {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a full disk. It takes root, who may mount a tmpfs.");
        return;
    };
    let load = Load { deletes: 5, ..Load::default() };
    let mut scene = Scene::set(name, Setting { load, way, ..Setting::default() }).await;
    let (uid, gid) = scene.server.owner();
    std::os::unix::fs::chown(disk.path(), Some(uid), Some(gid)).unwrap();
    let admin = scene.server.admin().await;
    for sql in [
        &format!("create tablespace small location '{}'", disk.path().display()),
        "alter table cimd_cache.client_id_metadata set tablespace small",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    scene
        .fault(async |_| {
            let filler = disk.path().join("filler");
            let mut file = File::create(&filler).unwrap();
            while file.write_all(&[0; 4_096]).is_ok() {}
            tokio::time::sleep(Duration::from_secs(4)).await;
            std::fs::remove_file(filler).unwrap();
        })
        .await;
    let allowed = Allowed { failures: &[CallFailure::Storage], gets: false, ..Allowed::default() };
    let failed = scene.failed_so_far();
    assert!(failed > 0, "the disk was not full");
    scene.end(allowed).await;
}
