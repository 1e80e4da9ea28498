#![allow(clippy::unwrap_used)]

use handshake_core::testing::SequentialIds;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    text: String,
    number: u64,
}
impl Document for Note {
    const KIND: &'static str = "note";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Letter {
    text: String,
    number: u64,
}
impl Document for Letter {
    const KIND: &'static str = "letter";
}

fn key(folder: &Path) -> SigningKey {
    SigningKey::load_or_create(&folder.join("recorder.pem"), &SequentialIds::default()).unwrap()
}

fn note() -> Note {
    Note { text: "ä \"".into(), number: 7 }
}

#[test]
fn a_key_is_made_once_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = key(folder.path());
    let path = folder.path().join("recorder.pem");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let again = SigningKey::load_or_create(&path, &SequentialIds::default()).unwrap();
    assert_eq!(first.public(), again.public());
    let signed = first.sign(note()).unwrap();
    signed.verify(again.public()).unwrap();
    assert!(!format!("{first:?}").contains("pair"));
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    key(folder.path());
    let path = folder.path().join("recorder.pem");
    let load = || SigningKey::load_or_create(&path, &SequentialIds::default()).unwrap_err();
    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(load(), KeyError::Exposed { .. }), "{mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for text in ["", "hunter22", "-----BEGIN PRIVATE KEY-----\naHVudGVyMjI=\n-----END PRIVATE KEY-----\n"] {
        std::fs::write(&path, text).unwrap();
        let error = load();
        assert!(matches!(error, KeyError::Malformed { .. }), "{text}: {error}");
        assert!(!error.to_string().contains("hunter22") && !error.to_string().contains("aHVudG"), "{error}");
    }
    let elsewhere = folder.path().join("nowhere").join("recorder.pem");
    let error = SigningKey::load_or_create(&elsewhere, &SequentialIds::default()).unwrap_err();
    assert!(matches!(error, KeyError::File { .. }), "{error}");
}

#[test]
fn a_public_key_comes_back_from_pem_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let public = key(folder.path()).public().clone();
    assert_eq!(PublicKey::from_pem(&public.to_pem()).unwrap(), public);
    let private = std::fs::read_to_string(folder.path().join("recorder.pem")).unwrap();
    for text in [private.as_str(), "", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(PublicKey::from_pem(text).is_err());
    }
}

#[test]
fn every_change_of_what_is_signed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(folder.path());
    let signed = key.sign(note()).unwrap();
    let file = signed.to_file().unwrap();
    assert_eq!(serde_json::from_slice::<Signed<Note>>(&file).unwrap(), signed);

    let changed = Signed { body: Note { number: 8, ..note() }, ..signed.clone() };
    assert_eq!(changed.verify(key.public()), Err(SignatureError::Wrong));
    let mut forged = signed.clone();
    forged.signature.replace_range(0..2, if signed.signature.starts_with("00") { "01" } else { "00" });
    assert_eq!(forged.verify(key.public()), Err(SignatureError::Wrong));
    for signature in ["", "zz", "00"] {
        let signed = Signed { signature: signature.into(), ..signed.clone() };
        assert_eq!(signed.verify(key.public()), Err(SignatureError::Wrong));
    }
    let text = String::from_utf8(file).unwrap();
    assert!(serde_json::from_str::<Signed<Note>>(&text.replace("\"number\"", "\"added\":1,\"number\"")).is_err());
    assert!(serde_json::from_str::<Signed<Note>>(&text.replace("\"key_id\"", "\"key\"")).is_err());
}

#[test]
fn a_signature_of_one_kind_is_none_of_another_and_one_key_is_not_the_other() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = key(one.path());
    let ids = SequentialIds::default();
    ids.uuid();
    let second = SigningKey::load_or_create(&two.path().join("k.pem"), &ids).unwrap();
    let Signed { body, key_id, signature } = first.sign(note()).unwrap();
    let letter = Signed { body: Letter { text: body.text, number: body.number }, key_id, signature };
    assert_eq!(letter.verify(first.public()), Err(SignatureError::Wrong));
    let signed = first.sign(note()).unwrap();
    assert!(matches!(signed.verify(second.public()), Err(SignatureError::OtherKey { .. })));
    // An id is only a name: claiming the other key's does not help.
    let renamed = Signed { key_id: second.public().id(), ..signed };
    assert_eq!(renamed.verify(second.public()), Err(SignatureError::Wrong));
}
