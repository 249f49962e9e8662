//! Why a certificate and its key cannot be used, in words that name the file and the remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::InconsistentKeys;
use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};

/// Why a pair cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Read {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM, or does not contain what it should.
    Pem {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key belongs to another certificate.
    Mismatch {
        /// The certificate's file.
        cert_file: PathBuf,
        /// The key's file.
        key_file: PathBuf,
    },
    /// rustls cannot use the pair: an unknown kind of key, a damaged certificate.
    Rejected {
        /// The certificate's file.
        cert_file: PathBuf,
        /// The key's file.
        key_file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsError {
    pub(super) fn pem(file: &Path, error: &PemError) -> Self {
        let reason = match error {
            PemError::MissingSectionEnd { end_marker } => {
                format!("cut off: no line {}", String::from_utf8_lossy(end_marker).trim_ascii())
            }
            PemError::IllegalSectionStart { .. } => "a -----BEGIN line is malformed".to_owned(),
            error => error.to_string(),
        };
        Self::Pem { file: file.to_owned(), reason }
    }

    /// `wanted` is not in the file: says what is there instead.
    pub(super) fn absent(file: &Path, wanted: &str, pem: &[u8]) -> Self {
        let found: Vec<_> = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).filter_map(Result::ok).collect();
        let hint =
            if contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(pem, b"Proc-Type: 4,ENCRYPTED") {
                ", but an encrypted one: decrypt it first (openssl pkey -in FILE -out KEY.pem)"
            } else if found.iter().any(|(kind, _)| *kind == SectionKind::Certificate) {
                ", but a certificate: are cert_file and key_file swapped?"
            } else if !found.is_empty() && wanted == "certificate" {
                ", but a key: are cert_file and key_file swapped?"
            } else if contains(pem, b"-----BEGIN") {
                ""
            } else {
                ": not a PEM file (no -----BEGIN line)"
            };
        Self::Pem { file: file.to_owned(), reason: format!("no {wanted} in it{hint}") }
    }

    pub(super) fn rejected(cert_file: &Path, key_file: &Path, source: rustls::Error) -> Self {
        let (cert_file, key_file) = (cert_file.to_owned(), key_file.to_owned());
        match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Self::Mismatch { cert_file, key_file },
            source => Self::Rejected { cert_file, key_file, source },
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, source } => write!(f, "cannot read {}: {source}", file.display()),
            Self::Pem { file, reason } => write!(f, "{}: {reason}", file.display()),
            Self::Mismatch { cert_file, key_file } => {
                write!(
                    f,
                    "the key in {} does not belong to the certificate in {}",
                    key_file.display(),
                    cert_file.display()
                )
            }
            Self::Rejected { cert_file, key_file, source } => {
                write!(f, "cannot use {} with {}: {source}", cert_file.display(), key_file.display())
            }
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Rejected { source, .. } => Some(source),
            Self::Pem { .. } | Self::Mismatch { .. } => None,
        }
    }
}
