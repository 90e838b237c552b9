//! Changes of files are told, once they have settled.

use std::{fs, path::Path, time::Duration};

use weft::config::watch::{Options, Watcher};

const PATIENCE: Duration = Duration::from_secs(20);

async fn told(watcher: &Watcher) {
    tokio::time::timeout(PATIENCE, watcher.changed()).await.expect("no change was told");
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_replaced_or_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.yaml");
    fs::write(&path, "a: 1").unwrap();
    let watcher = Watcher::start(path.clone(), Options::default()).unwrap();
    fs::write(&path, "a: 2").unwrap();
    told(&watcher).await;
    replace(&path, "a: 3");
    told(&watcher).await;
    fs::remove_file(&path).unwrap();
    told(&watcher).await;
    fs::write(&path, "a: 4").unwrap();
    told(&watcher).await;
}

#[tokio::test]
async fn a_link_that_is_swapped_as_kubernetes_does() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for version in ["..1", "..2"] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("weft.yaml"), version).unwrap();
    }
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/weft.yaml", at("weft.yaml")).unwrap();
    let file = Watcher::start(at("weft.yaml"), Options::default()).unwrap();
    let whole = Watcher::start(folder.path().into(), Options::default()).unwrap();
    std::os::unix::fs::symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    told(&file).await;
    told(&whole).await;
}

#[tokio::test]
async fn a_file_that_changes_as_soon_as_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, certificate) = (folder.path().join("weft.yaml"), folder.path().join("a.pem"));
    fs::write(&path, "a: 1").unwrap();
    for version in 0..50 {
        fs::write(&certificate, "old").unwrap();
        let watcher = Watcher::start(path.clone(), Options::default()).unwrap();
        watcher.files(&[certificate.clone()].into());
        replace(&certificate, &version.to_string());
        told(&watcher).await;
    }
}

#[tokio::test]
async fn files_that_are_referred_to() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.yaml");
    let certificate = elsewhere.path().join("a.pem");
    fs::write(&path, "a: 1").unwrap();
    fs::write(&certificate, "one").unwrap();
    // Without events: the poll alone must find it.
    let options = Options { poll: Duration::from_millis(20), ..Options::default() };
    let watcher = Watcher::start(path, options).unwrap();
    watcher.files(&[certificate.clone()].into());
    let mut version = 0;
    // Naming a file is taken in by the watching thread; changes after that are told.
    let change = async {
        loop {
            version += 1;
            replace(&certificate, &version.to_string());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = told(&watcher) => {}
        () = change => {}
    }
}
