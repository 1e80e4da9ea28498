//! The key that signs heads, segments and tombstones, and the form of what is signed.
//!
//! A signature covers a line that says what kind of document it is, and the document's canonical JSON (RFC 8785)
//! without the signature itself. So a signature of one kind is none of another, and no member can be added or taken
//! away.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use handshake_core::{Digest, Ids};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::disk::Disk;

/// What every SubjectPublicKeyInfo of an Ed25519 key begins with (RFC 8410); the 32 bytes of the key follow.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PEM labels (RFC 7468).
const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// A key has some hundred bytes; whatever is larger is none.
const LARGEST_KEY: u64 = 16 << 10;

/// Why there is no key to sign or verify with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("cannot {operation} the key `{path}`")]
    File {
        /// Which of both.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Others can get at it.
    #[error("other users can get at the key `{path}` (mode {mode:03o}), or it belongs to one of them")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no such key.
    #[error("`{what}` is not an Ed25519 key in PEM: {problem}")]
    Malformed {
        /// The file, or what else was to be read.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The library did not make one.
    #[error("no Ed25519 key could be made")]
    NotMade,
}

/// Why something that was signed does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Another key signed it.
    #[error("it is signed with the key {found}, and not with {expected}")]
    OtherKey {
        /// The key's id in the document.
        found: Digest,
        /// The id of the key that was asked for.
        expected: Digest,
    },
    /// The content is not what was signed.
    #[error("its signature does not match its content")]
    Wrong,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    raw: [u8; 32],
    id: Digest,
}

impl PublicKey {
    fn of(raw: [u8; 32]) -> Self {
        Self { raw, id: Digest::of(&[&SPKI_PREFIX[..], &raw].concat()) }
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// Its SubjectPublicKeyInfo in PEM, with a line break at the end.
    pub fn to_pem(&self) -> String {
        encode(PUBLIC, [&SPKI_PREFIX[..], &self.raw].concat())
    }

    /// Reads PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let malformed = |problem: String| KeyError::Malformed { what: "the public key".into(), problem };
        let block = pem::parse(text).map_err(|error| malformed(error.to_string()))?;
        let raw = block.contents().strip_prefix(&SPKI_PREFIX).and_then(|raw| <[u8; 32]>::try_from(raw).ok());
        match raw {
            Some(raw) if block.tag() == PUBLIC => Ok(Self::of(raw)),
            _ => Err(malformed(format!("it holds a {}", block.tag().to_lowercase()))),
        }
    }
}

fn encode(label: &str, content: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, content), config)
}

/// The private key. It shows nothing of itself.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads the key (PKCS#8, PEM), or makes one (mode 0600) if the file does not exist; its folder must. A file that
    /// group or others can get at, or that belongs to another user, is refused.
    pub fn load_or_create(path: &Path, ids: &dyn Ids) -> Result<Self, KeyError> {
        let failed = |operation| move |source| KeyError::File { operation, path: path.to_owned(), source };
        match std::fs::File::open(path) {
            Ok(file) => {
                let data = file.metadata().map_err(failed("read"))?;
                let mode = data.permissions().mode() & 0o777;
                if mode & 0o077 != 0 || data.uid() != rustix::process::geteuid().as_raw() {
                    return Err(KeyError::Exposed { path: path.to_owned(), mode });
                }
                let mut text = String::new();
                file.take(LARGEST_KEY).read_to_string(&mut text).map_err(failed("read"))?;
                Self::from_pem(&text)
                    .map_err(|problem| KeyError::Malformed { what: path.display().to_string(), problem })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                ids.random(&mut seed);
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::NotMade)?;
                let document = pair.to_pkcs8v1().map_err(|_| KeyError::NotMade)?;
                let text = encode(PRIVATE, document.as_ref().to_vec());
                Disk::default().replace(path, text.as_bytes()).map_err(failed("write"))?;
                Self::of(pair).ok_or(KeyError::NotMade)
            }
            Err(error) => Err(failed("read")(error)),
        }
    }

    fn from_pem(text: &str) -> Result<Self, String> {
        // The parser's messages may quote what it has read, which is a secret here.
        let block = pem::parse(text).map_err(|_| "it is not PEM".to_owned())?;
        if block.tag() != PRIVATE {
            return Err(format!("its label is not `{PRIVATE}`"));
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(block.contents()).map_err(|error| error.to_string())?;
        Self::of(pair).ok_or_else(|| "it has no public key".to_owned())
    }

    fn of(pair: Ed25519KeyPair) -> Option<Self> {
        let raw = <[u8; 32]>::try_from(pair.public_key().as_ref()).ok()?;
        let public = PublicKey::of(raw);
        // The prefix above is what the library itself writes.
        debug_assert!(pair.public_key().as_der().is_ok_and(|der| Digest::of(der.as_ref()) == public.id));
        Some(Self { pair, public })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a document.
    pub(crate) fn sign<T: Document>(&self, body: T) -> Result<Signed<T>, serde_json::Error> {
        let message = message(&body, self.public.id)?;
        let signature = hex::encode(self.pair.sign(&message).as_ref());
        Ok(Signed { body, key_id: self.public.id, signature })
    }
}

/// Something that is signed. Its JSON is an object that refuses unknown members.
pub trait Document: Serialize + DeserializeOwned {
    /// What it is; part of what is signed.
    const KIND: &'static str;
}

/// A document with its signature; in JSON the members of both stand side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// What is signed.
    pub body: T,
    /// Id of the key that signed it.
    pub key_id: Digest,
    /// 64 bytes in hexadecimal digits.
    pub signature: String,
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Signed<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Signed{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = T::json_schema(generator);
        let members = [
            ("key_id", generator.subschema_for::<Digest>()),
            (
                "signature",
                schemars::json_schema!({ "type": "string", "description": "64 bytes in hexadecimal digits" }),
            ),
        ];
        for (name, member) in members {
            let object = schema.ensure_object();
            if let Some(serde_json::Value::Object(properties)) = object.get_mut("properties") {
                properties.insert(name.to_owned(), member.into());
            }
            if let Some(serde_json::Value::Array(required)) = object.get_mut("required") {
                required.push(name.into());
            }
        }
        schema
    }
}

#[derive(Serialize)]
struct Covered<'a, T> {
    #[serde(flatten)]
    body: &'a T,
    key_id: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
}

fn message<T: Document>(body: &T, key_id: Digest) -> Result<Vec<u8>, serde_json::Error> {
    let mut message = format!("handshake recorder {} 1\n", T::KIND).into_bytes();
    message.extend(serde_jcs::to_vec(&Covered { body, key_id, signature: None })?);
    Ok(message)
}

impl<T: Document> Signed<T> {
    /// Checks that this key has signed it.
    pub fn verify(&self, key: &PublicKey) -> Result<(), SignatureError> {
        if self.key_id != key.id {
            return Err(SignatureError::OtherKey { found: self.key_id, expected: key.id });
        }
        let signature = hex::decode(&self.signature).map_err(|_| SignatureError::Wrong)?;
        // One signature is written in one way.
        if hex::encode(&signature) != self.signature {
            return Err(SignatureError::Wrong);
        }
        let message = message(&self.body, self.key_id).map_err(|_| SignatureError::Wrong)?;
        UnparsedPublicKey::new(&ED25519, key.raw).verify(&message, &signature).map_err(|_| SignatureError::Wrong)
    }

    /// Its file: canonical JSON and a line break.
    pub(crate) fn to_file(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut content = serde_jcs::to_vec(self)?;
        content.push(b'\n');
        Ok(content)
    }

    /// Reads its file. A file that says the same in another form is not the one that was written.
    pub(crate) fn from_file(content: &[u8]) -> Result<Self, serde_json::Error> {
        let document: Self = serde_json::from_slice(content)?;
        if document.to_file()? == content {
            return Ok(document);
        }
        Err(serde::de::Error::custom("it is not in the form in which it was written"))
    }
}

impl<T: Document> Serialize for Signed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Covered { body: &self.body, key_id: self.key_id, signature: Some(&self.signature) }.serialize(serializer)
    }
}

impl<'de, T: Document> Deserialize<'de> for Signed<T> {
    // Through a map, because a flattened struct would let unknown members pass, which are not signed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = serde_json::Map::deserialize(deserializer)?;
        let mut take = |name: &'static str| members.remove(name).ok_or_else(|| D::Error::missing_field(name));
        let key_id = serde_json::from_value(take("key_id")?).map_err(D::Error::custom)?;
        let signature = serde_json::from_value(take("signature")?).map_err(D::Error::custom)?;
        let body = serde_json::from_value(serde_json::Value::Object(members)).map_err(D::Error::custom)?;
        Ok(Self { body, key_id, signature })
    }
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
