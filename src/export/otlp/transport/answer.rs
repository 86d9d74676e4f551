//! What receivers answer, as messages of OTLP or of HTTP. Entry points: [`decode`], [`retry_after`].

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use prost::Message as _;
use prost::bytes::Buf;

use super::{Answer, Retry};
use crate::text::printable;

/// `ExportMetricsServiceResponse` and `ExportLogsServiceResponse`, which have the same fields.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<ExportPartialSuccess>,
}

/// `ExportMetricsPartialSuccess` and `ExportLogsPartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExportPartialSuccess {
    /// `rejected_data_points`, `rejected_log_records`.
    #[prost(int64, tag = "1")]
    pub(super) rejected: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// Decodes the message of a success.
pub(super) fn decode(message: impl Buf) -> Result<Answer, prost::DecodeError> {
    let response = ExportResponse::decode(message)?;
    Ok(response.partial_success.map_or_else(Answer::default, |partial| Answer {
        rejected: u64::try_from(partial.rejected).unwrap_or(0),
        message: printable(partial.error_message.as_bytes()),
    }))
}

/// Returns when to retry after a delay that the receiver may have demanded. One of nothing says only that a retry is welcome.
pub(super) fn retry(demanded: Option<Duration>) -> Retry {
    demanded.filter(|delay| !delay.is_zero()).map_or(Retry::WithBackoff, Retry::After)
}

/// Returns the delay in the header `Retry-After`: seconds, or the time until a date, which is nothing if it has passed. `None` if there is
/// none that can be read.
///
/// Source: RFC 9110, section 10.2.3.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than a number can have are forever.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_answer_is_decoded(rejected: i64, message: String) {
            let partial_success = Some(ExportPartialSuccess { rejected, error_message: message.clone() });
            let answer = decode(&*ExportResponse { partial_success }.encode_to_vec()).expect("it is an answer");
            prop_assert_eq!(answer.rejected, u64::try_from(rejected).unwrap_or(0));
            prop_assert_eq!(answer.message, printable(message.as_bytes()));
        }
    }

    #[test]
    fn retry_after_has_seconds_or_a_date_of_any_form() {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 60);
        let table = [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(60)),
            ("Sun Nov  6 08:49:37 1994", Some(60)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];
        for (value, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().expect("a header"));
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        assert_eq!(retry(Some(Duration::ZERO)), Retry::WithBackoff);
    }
}
