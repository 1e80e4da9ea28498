#![allow(clippy::unwrap_used)]

use handshake_core::testing::SequentialIds;

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn prepared(folder: &tempfile::TempDir) -> DataDirectory {
    DataDirectory::prepare(&folder.path().join("data")).unwrap()
}

#[test]
fn a_new_data_directory_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let data = prepared(&folder);
    assert_eq!(mode(data.path()), 0o700);
    assert_eq!(mode(&data.file("keys")), 0o700);
    assert_eq!(std::fs::read_to_string(data.file(".gitignore")).unwrap(), "*\n");
}

#[test]
fn a_directory_that_others_can_write_to_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = prepared(&folder);
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = DataDirectory::prepare(data.path()).unwrap_err();
    assert!(error.message.contains("(mode 777)"), "{}", error.message);
    assert!(error.hint.unwrap().contains("chmod 700"));
    assert_eq!(error.exit.code(), 2);
}

#[test]
fn only_one_owner_at_a_time_and_the_other_learns_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = prepared(&folder);
    let owner = data.try_own().unwrap().unwrap();
    assert!(data.try_own().unwrap().is_none());
    assert_eq!(data.owner_pid(), Some(std::process::id()));
    drop(owner);
    assert!(data.try_own().unwrap().is_some());
}

#[test]
fn the_key_is_made_once_and_refused_when_others_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = prepared(&folder);
    let owner = data.try_own().unwrap().unwrap();
    let ids = SequentialIds::default();
    let key = owner.cache_key(&ids).unwrap();
    assert_eq!(owner.cache_key(&ids).unwrap(), key);
    let path = data.file("keys/cache.key");
    assert_eq!(mode(&path), 0o600);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(owner.cache_key(&ids).unwrap_err().message.ends_with("can be read or written by others"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "short").unwrap();
    assert!(owner.cache_key(&ids).unwrap_err().message.ends_with("does not have 32 bytes"));
}

#[tokio::test]
async fn the_socket_is_private_replaces_a_stale_one_and_works_below_a_long_path() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDirectory::prepare(&folder.path().join("x".repeat(120)).join("data")).unwrap();
    let owner = data.try_own().unwrap().unwrap();
    drop(owner.listen().unwrap());
    assert!(data.file(SOCKET).exists(), "a socket outlives its listener");
    let listener = owner.listen().unwrap();
    assert_eq!(mode(&data.file(SOCKET)), 0o600);
    let (accepted, connected) = tokio::join!(listener.accept(), data.connect());
    accepted.unwrap();
    connected.unwrap();
    drop(owner);
    assert!(!data.file(SOCKET).exists());
}

#[test]
fn the_id_of_the_host_is_drawn_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = prepared(&folder);
    let owner = data.try_own().unwrap().unwrap();
    let ids = SequentialIds::default();
    let id = owner.host_id(&ids).unwrap();
    assert_eq!(owner.host_id(&ids).unwrap(), id);
    let path = data.file("host-id");
    assert_eq!((mode(&path), std::fs::read_to_string(&path).unwrap()), (0o600, format!("{id}\n")));
    for nonsense in ["", "x", "00000000-0000-0000-0000-000000000000"] {
        std::fs::write(&path, nonsense).unwrap();
        assert!(owner.host_id(&ids).unwrap_err().message.ends_with("does not hold the id of a host"));
    }
}
