//! The cluster's certificate authority: a directory with `ca.pem`, `ca.key` and, per name issued, `NAME.pem` and
//! `NAME.key`. ECDSA P-256.
//!
//! It only writes files; who may have which is the operator's matter: `ca.key` stays where it was made, a host gets
//! `ca.pem` and its own pair. A certificate is good for both ends of a connection and carries its name as common name
//! and as DNS name. Nothing is ever overwritten.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// The authority's own name. Two authorities of one name are told apart by their keys.
const CA_NAME: &str = "Nanboku CA";
/// How long certificates last. Long on purpose: nothing renews them yet, and a cluster that stops at midnight
/// because of a date helps nobody.
const VALID_DAYS: i64 = 3650;
/// Hosts whose clock is behind accept a new certificate as well.
const CLOCK_SLACK: Duration = Duration::days(1);

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("{0} exists already; remove it yourself if you mean to replace it")]
    Exists(PathBuf),
    #[error("there is no certificate authority in {0}; make one with `nanboku ca init`")]
    NoCa(PathBuf),
    #[error("'{0}' cannot be the name of a certificate: 1 to 63 letters, digits, '.', '_' and '-', not 'ca'")]
    BadName(String),
    #[error("'{name}' is neither a DNS name nor an IP address")]
    BadSubjectName { name: String, source: rcgen::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} does not hold a usable private key")]
    BadKey { path: PathBuf, source: rcgen::Error },
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes an authority in `dir`, which is created if missing.
///
/// # Errors
/// `Exists` if there is one already, or what went wrong with the files.
pub fn init(dir: &Path, now: OffsetDateTime) -> Result<Issued, CaError> {
    let files = files(dir, "ca");
    refuse_existing(&files)?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(|source| CaError::Write { path: dir.to_owned(), source })?;
    let key = KeyPair::generate().map_err(CaError::Make)?;
    let certificate = authority(now)?.self_signed(&key).map_err(CaError::Make)?;
    write_new(&files.key, &key.serialize_pem())?;
    write_new(&files.certificate, &certificate.pem())?;
    Ok(files)
}

/// Issues a certificate for `name`, valid for `subject_names` (DNS names or addresses) too.
///
/// # Errors
/// `NoCa`, `BadName`, `BadSubjectName`, `Exists`, or what went wrong with the files.
pub fn issue(
    dir: &Path,
    name: &str,
    subject_names: &[String],
    now: OffsetDateTime,
) -> Result<Issued, CaError> {
    let files = files(dir, name);
    check_name(name)?;
    let issuer = issuer(dir, now)?;
    refuse_existing(&files)?;
    let key = KeyPair::generate().map_err(CaError::Make)?;
    let certificate = leaf(name, subject_names, now)?.signed_by(&key, &issuer).map_err(CaError::Make)?;
    write_new(&files.key, &key.serialize_pem())?;
    write_new(&files.certificate, &certificate.pem())?;
    Ok(files)
}

fn files(dir: &Path, name: &str) -> Issued {
    Issued { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) }
}

fn check_name(name: &str) -> Result<(), CaError> {
    let letter = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let fits = (1..=63).contains(&name.len()) && name.bytes().all(letter) && !name.starts_with(['.', '-']);
    if fits && name != "ca" { Ok(()) } else { Err(CaError::BadName(name.to_owned())) }
}

fn refuse_existing(files: &Issued) -> Result<(), CaError> {
    for path in [&files.certificate, &files.key] {
        if path.symlink_metadata().is_ok() {
            return Err(CaError::Exists(path.clone()));
        }
    }
    Ok(())
}

/// The authority's key behind the same name it signed itself with: a verifier needs no more than that.
fn issuer(dir: &Path, now: OffsetDateTime) -> Result<Issuer<'static, KeyPair>, CaError> {
    let path = dir.join("ca.key");
    let pem = match fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(CaError::NoCa(dir.to_owned())),
        Err(source) => return Err(CaError::Read { path, source }),
    };
    let key = KeyPair::from_pem(&pem).map_err(|source| CaError::BadKey { path, source })?;
    Ok(Issuer::new(authority(now)?, key))
}

fn authority(now: OffsetDateTime) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(CaError::Make)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + Duration::days(VALID_DAYS);
    Ok(params)
}

fn leaf(name: &str, subject_names: &[String], now: OffsetDateTime) -> Result<CertificateParams, CaError> {
    for subject in subject_names {
        CertificateParams::new(vec![subject.clone()])
            .map_err(|source| CaError::BadSubjectName { name: subject.clone(), source })?;
    }
    let mut names = vec![name.to_owned()];
    names.extend(subject_names.iter().filter(|subject| *subject != name).cloned());
    let mut params = CertificateParams::new(names).map_err(CaError::Make)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + Duration::days(VALID_DAYS);
    Ok(params)
}

/// Writes a file that did not exist, readable by its owner alone.
fn write_new(path: &Path, text: &str) -> Result<(), CaError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CaError::Exists(path.to_owned()),
        _ => CaError::Write { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    #[test]
    fn writes_files_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("pki");
        init(&dir, now()).unwrap();
        issue(&dir, "ahv01", &["10.0.0.1".into(), "ahv01.example".into()], now()).unwrap();
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["ahv01.key", "ahv01.pem", "ca.key", "ca.pem"]);
        for name in names {
            let mode = dir.join(&name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), now()).unwrap();
        issue(dir.path(), "ahv01", &[], now()).unwrap();
        let before = fs::read(dir.path().join("ca.key")).unwrap();
        assert!(matches!(init(dir.path(), now()), Err(CaError::Exists(_))));
        assert!(matches!(issue(dir.path(), "ahv01", &[], now()), Err(CaError::Exists(_))));
        assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), before);
    }

    #[test]
    fn refuses_names_that_would_leave_the_directory_or_clash() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(issue(dir.path(), "ahv01", &[], now()), Err(CaError::NoCa(_))));
        init(dir.path(), now()).unwrap();
        for name in ["", "ca", "..", "../x", "a/b", "-x", "a b", &"x".repeat(64)] {
            assert!(matches!(issue(dir.path(), name, &[], now()), Err(CaError::BadName(_))), "{name:?}");
        }
        let unusable = issue(dir.path(), "ahv01", &["häuptling".into()], now());
        assert!(matches!(unusable, Err(CaError::BadSubjectName { name, .. }) if name == "häuptling"));
        assert!(!dir.path().join("ahv01.key").exists());
    }
}
