//! Maps the error response of a store to the fault of a fetch: the code, and the party at fault.
//!
//! A code for invalid credentials, another clock or a wrong region fails every object of the store,
//! so it is unambiguous ([`StoreFault::Refused`](crate::storage::StoreFault::Refused)). A plain 403
//! is not ([`StoreFault::Denied`](crate::storage::StoreFault::Denied)): S3 answers the same if one
//! object is forbidden, if all are, and, without the permission to list, if the object is missing.

use crate::storage::error::{FetchFault, Signer};
use crate::storage::error_response::ErrorResponse;

/// Codes of S3, Google and Azure for credentials that no request can succeed with.
const CREDENTIAL_CODES: [&str; 23] = [
    "AccountIsDisabled",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthenticationFailed",
    "AuthenticationRequired",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "KeyBasedAuthenticationNotPermitted",
    "NoAuthenticationInformation",
    "NotSignedUp",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "UserProjectAccountProblem",
    "UserProjectInvalid",
    "UserProjectMissing",
    "accountDisabled",
    "authError",
    "userProjectMissing",
];
/// The code for a signature that is wrong for this request.
const SIGNATURE_CODE: &str = "SignatureDoesNotMatch";
/// Codes for a clock that differs from the store's.
const CLOCK_CODES: [&str; 2] = ["RequestTimeTooSkewed", "RequestExpired"];
/// Codes for a request that was sent to another region than the bucket's.
const REGION_CODES: [&str; 3] =
    ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"];
/// Codes of a bucket or container that does not exist.
const BUCKET_CODES: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];
/// Codes for requests that come too fast. S3 also answers 503 `ServiceUnavailable` then.
const THROTTLING_CODES: [&str; 12] = [
    "BandwidthLimitExceeded",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "ServerBusy",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "rateLimitExceeded",
    "userRateLimitExceeded",
];

impl FetchFault {
    /// Maps a response without the object.
    pub(crate) fn from_response(response: &ErrorResponse, signer: Signer) -> Self {
        let answer = response.to_string();
        if is_throttling(response) {
            return Self::Throttled { answer, retry_after: response.retry_after };
        }
        if let Some(fault) = credential_fault(response, signer) {
            return fault;
        }
        match response.status {
            404 if response.is_one_of(&BUCKET_CODES) => Self::NoSuchBucket { answer, signer },
            404 | 410 => Self::NotFound(answer),
            // An archived object: its storage class, not its rights.
            403 if response.is_one_of(&["InvalidObjectState"]) => Self::UnexpectedAnswer(answer),
            401 | 403 => Self::Denied(answer),
            451 => Self::Forbidden(answer),
            412 => Self::EtagMismatch(answer),
            408 | 425 | 500.. => Self::Unavailable(answer),
            // S3 sends this if the request arrived too slowly.
            400 if response.is_one_of(&["RequestTimeout"]) => Self::Unavailable(answer),
            _ => Self::UnexpectedAnswer(answer),
        }
    }
}

fn is_throttling(response: &ErrorResponse) -> bool {
    let is_named = response.is_one_of(&THROTTLING_CODES);
    match response.status {
        429 => true,
        503 => is_named || response.retry_after.is_some(),
        400 | 403 | 500 => is_named,
        _ => false,
    }
}

/// Returns the fault if the store does not accept the signature, the clock or the region of the
/// request. For a URL of the sender, the signature is the reference's fault.
fn credential_fault(response: &ErrorResponse, signer: Signer) -> Option<FetchFault> {
    let answer = response.to_string();
    let refused = |remedy| Some(FetchFault::Refused { answer: response.to_string(), remedy });
    if response.status == 407 {
        return refused("set the credentials of the proxy in its environment variable");
    }
    if !matches!(response.status, 301 | 400 | 401 | 403) {
        return None;
    }
    let is_about_credentials = response.is_one_of(&CREDENTIAL_CODES);
    let is_about_signature = response.is_one_of(&[SIGNATURE_CODE]);
    let is_about_time = response.is_one_of(&CLOCK_CODES);
    if signer == Signer::Sender {
        let is_expired = response.says("has expired") || response.says("not yet valid");
        let is_fault = is_about_credentials || is_about_signature || is_about_time || is_expired;
        return is_fault.then_some(FetchFault::PresignedUrl(answer));
    }
    if is_about_signature {
        return Some(FetchFault::Signature(answer));
    }
    if is_about_time {
        return refused("set this machine's clock: it differs from the store's");
    }
    if response.is_one_of(&REGION_CODES) || response.status == 301 && response.region.is_some() {
        return refused("set the region of the bucket in storage.s3.region or storage.s3_buckets");
    }
    if is_about_credentials || response.status == 401 {
        return refused("renew the credentials; the worker reads their files and roles again");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::storage::error::{FetchError, StoreFault};

    fn response(status: u16, code: Option<&str>) -> ErrorResponse {
        let code = code.map(str::to_owned);
        ErrorResponse { status, code, ..ErrorResponse::default() }
    }

    #[test]
    fn a_response_decides_on_the_code_and_the_party_at_fault() {
        use StoreFault::{Denied, Refused, Throttled, Unavailable};
        let check = |status, name, code, store_fault| {
            let fault = FetchFault::from_response(&response(status, name), Signer::Worker);
            assert_eq!(
                (fault.code(), fault.store_fault()),
                (code, store_fault),
                "{status} {name:?}"
            );
            assert_eq!(fault.is_transient(), store_fault == Some(Unavailable));
        };
        check(404, Some("NoSuchKey"), "fetch.not_found", None);
        check(404, Some("NoSuchBucket"), "fetch.no_such_bucket", Some(Refused));
        check(404, Some("ContainerNotFound"), "fetch.no_such_bucket", Some(Refused));
        check(410, None, "fetch.not_found", None);
        check(401, None, "fetch.credentials", Some(Refused));
        check(403, None, "fetch.forbidden", Some(Denied));
        check(403, Some("AccessDenied"), "fetch.forbidden", Some(Denied));
        check(403, Some("AuthorizationPermissionMismatch"), "fetch.forbidden", Some(Denied));
        check(403, Some("InvalidObjectState"), "fetch.unexpected_answer", None);
        check(451, None, "fetch.forbidden", None);
        for name in CREDENTIAL_CODES.into_iter().chain(CLOCK_CODES) {
            check(403, Some(name), "fetch.credentials", Some(Refused));
            check(400, Some(name), "fetch.credentials", Some(Refused));
        }
        check(403, Some("SignatureDoesNotMatch"), "fetch.credentials", Some(Denied));
        check(301, Some("PermanentRedirect"), "fetch.credentials", Some(Refused));
        check(400, Some("AuthorizationHeaderMalformed"), "fetch.credentials", Some(Refused));
        check(407, None, "fetch.credentials", Some(Refused));
        check(301, None, "fetch.unexpected_answer", None);
        check(412, None, "fetch.etag_mismatch", None);
        check(429, None, "fetch.throttled", Some(Throttled));
        check(503, Some("SlowDown"), "fetch.throttled", Some(Throttled));
        check(503, Some("ServerBusy"), "fetch.throttled", Some(Throttled));
        check(403, Some("rateLimitExceeded"), "fetch.throttled", Some(Throttled));
        check(503, None, "fetch.unavailable", Some(Unavailable));
        check(500, Some("InternalError"), "fetch.unavailable", Some(Unavailable));
        check(408, None, "fetch.unavailable", Some(Unavailable));
        check(400, Some("RequestTimeout"), "fetch.unavailable", Some(Unavailable));
        check(400, None, "fetch.unexpected_answer", None);
    }

    #[test]
    fn a_refused_signature_in_a_url_of_the_sender_is_the_fault_of_the_reference() {
        let fault = |response| FetchFault::from_response(&response, Signer::Sender);
        for name in ["ExpiredToken", "SignatureDoesNotMatch", "AuthenticationFailed"] {
            let fault = fault(response(403, Some(name)));
            assert_eq!((fault.code(), fault.store_fault()), ("fetch.presigned_url", None));
        }
        let message = Some("Request has expired".to_owned());
        let expired = ErrorResponse { message, ..response(403, Some("AccessDenied")) };
        assert_eq!(fault(expired).code(), "fetch.presigned_url");
        for status in [401, 403] {
            let fault = fault(response(status, None));
            assert_eq!(fault.code(), "fetch.forbidden");
            assert_eq!(fault.store_fault(), Some(StoreFault::Denied), "the host may deny all");
        }
    }

    #[test]
    fn a_store_may_demand_a_pause_with_any_503() {
        let retry_after = Some(Duration::from_secs(7));
        let busy = ErrorResponse { retry_after, ..response(503, None) };
        let fault = FetchFault::from_response(&busy, Signer::Sender);
        let failure = FetchError::new(String::new(), fault, 1).store_failure().unwrap();
        assert_eq!((failure.fault, failure.retry_after), (StoreFault::Throttled, retry_after));
    }

    #[test]
    fn a_message_names_the_object_the_cause_and_the_remedy() {
        let fault = FetchFault::from_response(&response(404, Some("NoSuchKey")), Signer::Worker);
        let error = FetchError::new("s3://photos/a.jpg".to_owned(), fault, 1);
        assert_eq!(
            error.to_string(),
            "s3://photos/a.jpg: there is no such object (404 NoSuchKey); it was deleted or never \
             written",
        );
        let skewed = response(403, Some("RequestTimeTooSkewed"));
        let fault = FetchFault::from_response(&skewed, Signer::Worker).to_string();
        assert!(fault.contains("403 RequestTimeTooSkewed") && fault.contains("clock"), "{fault}");
    }
}
