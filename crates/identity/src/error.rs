//! Every answer that is not a success: Keystone's status, title and sentence in its one body.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{message}")]
    BadRequest { message: String },
    /// Says nothing of what was wrong: whoever guesses learns nothing.
    #[error("The request you have made requires authentication.")]
    Unauthorized,
    #[error("You are not authorized to perform the requested action: {action}.")]
    Forbidden { action: &'static str },
    #[error("{message}")]
    Refused { message: &'static str },
    #[error("Could not find {what}: {id}.")]
    NotFound { what: &'static str, id: String },
    #[error("The resource could not be found.")]
    NoRoute,
    #[error("The method is not allowed for the requested resource.")]
    MethodNotAllowed,
    #[error("Conflict occurred attempting to store {what} - {reason}.")]
    Conflict { what: &'static str, reason: String },
    #[error("The request body is larger than {bytes_max} bytes.")]
    TooLarge { bytes_max: usize },
    #[error("Too many failed attempts to log in. Try again in {retry_after_s} seconds.")]
    TooManyAttempts { retry_after_s: u64 },
    #[error("An unexpected error prevented the server from fulfilling your request.")]
    Store(#[from] StoreError),
    #[error("An unexpected error prevented the server from fulfilling your request.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest { message: message.into() }
    }

    pub(crate) fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } | Self::Refused { .. } => StatusCode::FORBIDDEN,
            Self::NotFound { .. } | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let mut cause = std::error::Error::source(&self);
            while let Some(error) = cause {
                tracing::error!(%error, "request failed");
                cause = error.source();
            }
        }
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({"error": {"code": status.as_u16(), "message": self.to_string(), "title": title}});
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Keystone"));
            }
            Self::TooManyAttempts { retry_after_s } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            _ => {}
        }
        response
    }
}
