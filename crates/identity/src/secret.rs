//! Passwords, secrets and tokens: how they are made, what is kept of them, and how they are compared.

use crate::Error;
use argon2::{Algorithm, Argon2, Params, Version};
use model::identity::{Secret, TokenId};
use rand::Rng;
use std::fmt::Write as _;
use std::sync::OnceLock;
use subtle::ConstantTimeEq;

/// 19 MiB, two passes, one lane: the least that OWASP's password storage cheat sheet asks of Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Longer passwords are refused, as in Keystone: hashing must not become work without bound.
pub(crate) const PASSWORD_BYTES_MAX: usize = 4096;

/// What to keep of a password. Takes tens of milliseconds of one core: not for async threads.
///
/// # Errors
/// The parameters are refused, which they never are.
pub(crate) fn hash(password: &str) -> Result<Secret, Error> {
    let salt: [u8; SALT_BYTES] = rand::rng().random();
    let mut secret = Secret {
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
        salt: hex(&salt),
        hash: String::new(),
    };
    secret.hash = hex(&derive(&secret, &salt, password)?);
    Ok(secret)
}

/// Whether that is the password. The comparison takes the same time wherever they differ. As slow as [`hash`].
pub(crate) fn verify(secret: &Secret, password: &str) -> bool {
    let Some(salt) = unhex(&secret.salt) else { return false };
    let Ok(hash) = derive(secret, &salt, password) else { return false };
    bool::from(hex(&hash).as_bytes().ct_eq(secret.hash.as_bytes()))
}

/// Takes as long as [`verify`] and is never right: for users that do not exist, so that time does not tell.
pub(crate) fn verify_nobody(password: &str) -> bool {
    static NOBODY: OnceLock<Option<Secret>> = OnceLock::new();
    let nobody = NOBODY.get_or_init(|| hash(&random_text()).ok());
    if let Some(nobody) = nobody {
        verify(nobody, password);
    }
    false
}

fn derive(secret: &Secret, salt: &[u8], password: &str) -> Result<[u8; HASH_BYTES], Error> {
    let params = Params::new(secret.memory_kib, secret.passes, secret.lanes, Some(HASH_BYTES));
    let params = params.map_err(|error| Error::internal(error.to_string()))?;
    let mut out = [0; HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hashed = argon2.hash_password_into(password.as_bytes(), salt, &mut out);
    hashed.map_err(|error| Error::internal(error.to_string()))?;
    Ok(out)
}

/// 256 random bits as text: a token, a generated password or the secret of an application credential.
pub(crate) fn random_text() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    hex(&bytes)
}

/// 128 random bits: audit ids.
pub(crate) fn random_id() -> String {
    let bytes: [u8; 16] = rand::rng().random();
    hex(&bytes)
}

/// What is kept of a token. A plain hash is enough: nobody guesses 256 random bits. Looking one up by its hash
/// also means that the time it takes tells nothing of how near a guess was.
pub(crate) fn token_id(token: &str) -> TokenId {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(digest.as_ref());
    TokenId(id)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte = |i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_the_password() {
        let secret = hash("correct horse").unwrap();
        assert!(verify(&secret, "correct horse"));
        for wrong in ["", "correct", "correct horse ", "Correct horse"] {
            assert!(!verify(&secret, wrong), "{wrong:?}");
        }
        assert!(!verify_nobody("correct horse"));
        assert_ne!(hash("correct horse").unwrap(), secret, "salted");
        assert!(!verify(&Secret { salt: "zz".into(), ..secret.clone() }, "correct horse"));
        assert!(!verify(&Secret { hash: String::new(), ..secret }, "correct horse"));
    }

    /// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    #[test]
    fn tokens_are_kept_as_sha256() {
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(token_id("abc").to_string(), want);
        assert_eq!(random_text().len(), 64);
        assert_ne!(random_text(), random_text());
    }
}
