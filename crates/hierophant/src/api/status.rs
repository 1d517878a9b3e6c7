//! How each kind of trouble looks on each wire.
//!
//! The SP1 SDK retries `UNAVAILABLE` on gRPC and 504 on artifact HTTP, and gives up on nearly everything else: trouble
//! that passes must be one of these, and bad input must not (`INTERNAL` is retried for two minutes).

use axum::http::StatusCode;
use tonic::Code;

use crate::class::Class;

/// The gRPC code of a class.
pub const fn grpc_code(class: Class) -> Code {
    match class {
        Class::Rejected => Code::InvalidArgument,
        Class::Unauthenticated => Code::Unauthenticated,
        Class::Denied => Code::PermissionDenied,
        Class::NotFound => Code::NotFound,
        Class::Conflict => Code::AlreadyExists,
        Class::Unavailable => Code::Unavailable,
        Class::Internal => Code::Internal,
    }
}

/// The HTTP status of a class.
pub const fn http_status(class: Class) -> StatusCode {
    match class {
        Class::Rejected => StatusCode::BAD_REQUEST,
        Class::Unauthenticated => StatusCode::UNAUTHORIZED,
        Class::Denied => StatusCode::FORBIDDEN,
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::Conflict => StatusCode::CONFLICT,
        Class::Unavailable => StatusCode::GATEWAY_TIMEOUT,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
