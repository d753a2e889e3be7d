//! Owns Stripe's errors: their JSON, their codes, and whether the answer is kept under the idempotency key.
//!
//! Deliberately absent: errors of the simulator itself. If the journal cannot be written the caller sees Stripe's
//! `api_error`, because that is what it must be able to survive.

use serde_json::{Map, Value, json};

/// What every operation returns. Boxed: errors are rare and large.
pub(crate) type Result<T> = std::result::Result<T, Box<StripeError>>;

#[derive(Clone, Debug)]
pub(crate) struct StripeError {
    pub status: u16,
    pub error_type: &'static str,
    pub code: Option<String>,
    pub message: String,
    pub param: Option<String>,
    pub decline_code: Option<String>,
    /// Further fields of the error, such as `payment_intent`.
    pub more: Map<String, Value>,
    /// Validation that failed before execution began leaves the idempotency key unused.
    pub before_execution: bool,
    /// A declined card changes the payment intent although the request failed.
    pub keeps_effects: bool,
}

impl StripeError {
    fn new(
        status: u16,
        error_type: &'static str,
        code: Option<&str>,
        message: impl Into<String>,
    ) -> Box<StripeError> {
        Box::new(StripeError {
            status,
            error_type,
            code: code.map(str::to_owned),
            message: message.into(),
            param: None,
            decline_code: None,
            more: Map::new(),
            before_execution: false,
            keeps_effects: false,
        })
    }

    /// 400 about one parameter, found before execution.
    pub(crate) fn parameter(
        code: &str,
        param: &str,
        message: impl Into<String>,
    ) -> Box<StripeError> {
        let mut error = Self::new(400, "invalid_request_error", Some(code), message);
        error.param = Some(param.to_owned());
        error.before_execution = true;
        error
    }

    pub(crate) fn missing(param: &str) -> Box<StripeError> {
        Self::parameter(
            "parameter_missing",
            param,
            format!("Missing required param: {param}."),
        )
    }

    /// 400 because of the present state of things.
    pub(crate) fn state(code: Option<&str>, message: impl Into<String>) -> Box<StripeError> {
        Self::new(400, "invalid_request_error", code, message)
    }

    /// 404 for an object in the path, 400 (Stripe's choice) for one in a parameter.
    pub(crate) fn no_such(noun: &str, id: &str, param: &str) -> Box<StripeError> {
        let status = if param == "id" { 404 } else { 400 };
        let message = format!("No such {noun}: '{id}'");
        let mut error = Self::new(
            status,
            "invalid_request_error",
            Some("resource_missing"),
            message,
        );
        error.param = Some(param.to_owned());
        error
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Box<StripeError> {
        let mut error = Self::new(401, "invalid_request_error", None, message);
        error.before_execution = true;
        error
    }

    pub(crate) fn no_such_url(method: &str, path: &str) -> Box<StripeError> {
        let message = format!(
            "Unrecognized request URL ({method}: {path}). Please see https://docs.stripe.com."
        );
        let mut error = Self::new(404, "invalid_request_error", None, message);
        error.before_execution = true;
        error
    }

    pub(crate) fn rate_limit() -> Box<StripeError> {
        let mut error = Self::new(
            429,
            "invalid_request_error",
            Some("rate_limit"),
            "Request rate limit exceeded.",
        );
        error.before_execution = true;
        error
    }

    /// Another request holds the object; nothing was done.
    pub(crate) fn lock_timeout() -> Box<StripeError> {
        let message = "This object cannot be accessed right now because another API request or Stripe process is currently \
                       accessing it. If you see this error intermittently, retry the request.";
        let mut error = Self::new(429, "invalid_request_error", Some("lock_timeout"), message);
        error.before_execution = true;
        error
    }

    /// 402.
    pub(crate) fn declined(
        code: &str,
        decline_code: Option<&str>,
        message: &str,
    ) -> Box<StripeError> {
        let mut error = Self::new(402, "card_error", Some(code), message);
        error.decline_code = decline_code.map(str::to_owned);
        error
    }

    pub(crate) fn key_reused(key: &str) -> Box<StripeError> {
        let message = format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try \
             using a key other than '{key}' if you meant to execute a different request."
        );
        let mut error = Self::new(400, "idempotency_error", None, message);
        error.before_execution = true;
        error
    }

    pub(crate) fn key_in_use(key: &str) -> Box<StripeError> {
        let message = format!(
            "There is currently another in-progress request using this Stripe account and Idempotency-Key '{key}'. \
             That probably means you submitted twice, and the other request is still going through."
        );
        let mut error = Self::new(
            409,
            "invalid_request_error",
            Some("idempotency_key_in_use"),
            message,
        );
        error.before_execution = true;
        error
    }

    pub(crate) fn key_too_long() -> Box<StripeError> {
        let message = "Idempotency keys must be at most 255 characters and not empty.";
        let mut error = Self::new(400, "idempotency_error", None, message);
        error.before_execution = true;
        error
    }

    pub(crate) fn internal() -> Box<StripeError> {
        let message = "An unknown error occurred";
        let mut error = Self::new(500, "api_error", None, message);
        error.before_execution = true;
        error
    }

    pub(crate) fn body_too_large() -> Box<StripeError> {
        let mut error = Self::new(
            413,
            "invalid_request_error",
            None,
            "The request body is larger than 1 MiB.",
        );
        error.before_execution = true;
        error
    }

    /// What a `status` fault answers. Only a 500 counts as having begun (and is therefore replayed).
    pub(crate) fn injected(status: u16) -> Box<StripeError> {
        let (error_type, code, message) = match status {
            401 => (
                "invalid_request_error",
                None,
                "Invalid API Key provided (injected fault).",
            ),
            402 => (
                "card_error",
                Some("card_declined"),
                "Your card was declined (injected fault).",
            ),
            409 => (
                "invalid_request_error",
                Some("lock_timeout"),
                "This object cannot be accessed right now (injected fault).",
            ),
            429 => (
                "invalid_request_error",
                Some("rate_limit"),
                "Request rate limit exceeded (injected fault).",
            ),
            400..=499 => ("invalid_request_error", None, "Injected fault."),
            _ => (
                "api_error",
                None,
                "An unknown error occurred (injected fault).",
            ),
        };
        let mut error = Self::new(status, error_type, code, message);
        error.before_execution = status != 500;
        if status == 402 {
            error.decline_code = Some("generic_decline".to_owned());
        }
        error
    }

    pub(crate) fn with_param(mut self: Box<Self>, param: &str) -> Box<Self> {
        self.param = Some(param.to_owned());
        self
    }

    /// The fields inside `error`, as they are also kept in `last_payment_error`.
    pub(crate) fn fields(&self) -> Value {
        let mut fields = Map::new();
        if let Some(code) = &self.code {
            fields.insert("code".into(), json!(code));
        }
        if let Some(decline_code) = &self.decline_code {
            fields.insert("decline_code".into(), json!(decline_code));
        }
        if let Some(code) = &self.code {
            fields.insert(
                "doc_url".into(),
                json!(format!(
                    "https://docs.stripe.com/error-codes/{}",
                    code.replace('_', "-")
                )),
            );
        }
        fields.insert("message".into(), json!(self.message));
        if let Some(param) = &self.param {
            fields.insert("param".into(), json!(param));
        }
        fields.extend(self.more.clone());
        fields.insert("type".into(), json!(self.error_type));
        Value::Object(fields)
    }

    pub(crate) fn body(&self, request_id: &str) -> Value {
        let mut fields = self.fields();
        fields["request_log_url"] = json!(format!(
            "https://dashboard.stripe.com/test/logs/{request_id}"
        ));
        json!({ "error": fields })
    }
}
