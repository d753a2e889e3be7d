//! Stripe's API over the stack: typed requests of async-stripe out, our own lenient types in, and failures classed by
//! what they prove.
//!
//! Deliberately absent: idempotency keys made here (the caller's are derived from what it does, so that a restart uses
//! the same ones), and webhooks, which integrations and billing read.

mod failure;
mod list;

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mainstay_runtime::config::{Config, Group, Kind, Setting};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use stripe_client_core::{
    CustomizedStripeRequest, RequestBuilder, StripeClient, StripeMethod, StripeRequest, VERSION,
};

use crate::http_stack::{Call, HttpStack, Outcome, ProviderSettings, Repeat, StackError};

pub use failure::StripeFailure;

/// Where Stripe answers.
pub const API_BASE: Setting = Setting::new(
    "STRIPE_API_BASE",
    "where Stripe's API answers; `/v1` is added",
    Kind::HttpUrl,
)
.default("https://api.stripe.com")
.real_provider_in_production();

/// What we call Stripe with.
pub const SECRET_KEY: Setting = Setting::new(
    "STRIPE_SECRET_KEY",
    "the secret key that calls Stripe (sk_… or rk_…)",
    Kind::Secret { min_len: 8 },
)
.secret();

/// These settings.
pub static GROUP: Group = Group {
    name: "stripe",
    about: "Calling Stripe.",
    settings: &[API_BASE, SECRET_KEY],
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const STRIPE_VERSION: HeaderName = HeaderName::from_static("stripe-version");
const STRIPE_ACCOUNT: HeaderName = HeaderName::from_static("stripe-account");

/// Calls Stripe. Clones share everything.
#[derive(Clone)]
pub struct StripeApi {
    stack: HttpStack,
    headers: HeaderMap,
}

impl fmt::Debug for StripeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StripeApi({:?})", self.stack)
    }
}

impl StripeApi {
    /// For one role, at this address with this key.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(role: &'static str, base: &str, secret: &SecretString) -> Result<Self, StackError> {
        let settings = ProviderSettings {
            // Stripe says itself whether trying again makes sense; it knows what its key store holds.
            retry_hint: |answer| match answer.headers.get("stripe-should-retry")?.to_str().ok()? {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            ..ProviderSettings::new("stripe", role, base)
        };
        Self::over(HttpStack::new(settings)?, secret)
    }

    /// As configured.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn from_config(role: &'static str, config: &Config) -> Result<Self, StackError> {
        Self::new(
            role,
            &config.get::<String>(&API_BASE),
            &config.get::<SecretString>(&SECRET_KEY),
        )
    }

    fn over(stack: HttpStack, secret: &SecretString) -> Result<Self, StackError> {
        let mut headers = HeaderMap::new();
        // A key with a line break in it would be refused by Stripe; here it only must not end the process.
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", secret.expose_secret().trim()))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer unusable"));
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(STRIPE_VERSION, HeaderValue::from_static(VERSION.as_str()));
        Ok(StripeApi { stack, headers })
    }

    /// The stack, for health.
    pub fn stack(&self) -> &HttpStack {
        &self.stack
    }

    /// Sends a request of async-stripe and reads the answer as `T`. A POST without a key is sent once and never again.
    ///
    /// # Errors
    /// By what is proven: refused, not sent, or unknown.
    pub async fn send<T: DeserializeOwned>(
        &self,
        request: &impl StripeRequest,
        idempotency_key: Option<&str>,
    ) -> Result<T, StripeFailure> {
        self.send_within(request, idempotency_key, None).await
    }

    /// As [`send`](Self::send), giving up at `deadline`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_within<T: DeserializeOwned>(
        &self,
        request: &impl StripeRequest,
        idempotency_key: Option<&str>,
        deadline: Option<Instant>,
    ) -> Result<T, StripeFailure> {
        failure::read(
            &self
                .raw(request.build(), idempotency_key, None, deadline)
                .await?,
        )
    }

    /// Posts a form to `path` (below `/v1`), for what async-stripe has no request for.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &impl serde::Serialize,
        idempotency_key: &str,
    ) -> Result<T, StripeFailure> {
        let request = RequestBuilder::new(StripeMethod::Post, path).form(form);
        failure::read(&self.raw(request, Some(idempotency_key), None, None).await?)
    }

    /// Reads `path` (below `/v1`) with these query parameters.
    ///
    /// # Errors
    /// As [`send`](Self::send); an unknown outcome of a read means only that it is not known.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, StripeFailure> {
        let request = RequestBuilder::new(StripeMethod::Get, path);
        let request = if query.is_empty() {
            request
        } else {
            request.query(&Pairs(query))
        };
        failure::read(&self.raw(request, None, None, None).await?)
    }

    async fn raw(
        &self,
        request: RequestBuilder,
        idempotency_key: Option<&str>,
        account: Option<&str>,
        deadline: Option<Instant>,
    ) -> Result<Bytes, StripeFailure> {
        let mut headers = self.headers.clone();
        let mut put = |name: HeaderName, value: Option<&str>| -> Result<(), String> {
            if let Some(value) = value {
                let unfit = |_| format!("{name} is no header value");
                let value = HeaderValue::try_from(value).map_err(unfit)?;
                headers.insert(name, value);
            }
            Ok(())
        };
        put(STRIPE_ACCOUNT, account).map_err(StripeFailure::unsendable)?;
        let (method, repeat) = match request.method {
            StripeMethod::Get => (Method::GET, Repeat::Harmless),
            StripeMethod::Post => {
                put(IDEMPOTENCY_KEY, idempotency_key).map_err(StripeFailure::unsendable)?;
                (
                    Method::POST,
                    if idempotency_key.is_some() {
                        Repeat::Harmless
                    } else {
                        Repeat::Never
                    },
                )
            }
            // Stripe keeps no keys for DELETE; a repeat would be told "no such object" for its own success.
            StripeMethod::Delete => (Method::DELETE, Repeat::Never),
        };
        if method == Method::POST {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
        }
        let query = request
            .query
            .filter(|query| !query.is_empty())
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let call = Call {
            route: format!("/v1{}", without_ids(&request.path)),
            path: format!("/v1{}{query}", request.path),
            method,
            headers,
            body: request.body.map(Bytes::from).unwrap_or_default(),
            repeat,
            deadline,
        };
        match self.stack.call(call).await {
            Outcome::Answer(answer) => failure::classify(answer),
            Outcome::NotSent(not_sent) => Err(not_sent.into()),
            Outcome::Unknown(unknown) => Err(unknown.into()),
        }
    }
}

/// Parameters in the caller's order.
struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl serde::Serialize for Pairs<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// Lets `request.customize().request_strategy(Idempotent(key)).send(&api)` and paginators of async-stripe run over our
/// stack. Of the strategies only the explicit key counts: retries are the stack's, and keys are never made here.
impl StripeClient for StripeApi {
    type Err = StripeFailure;

    async fn execute(&self, request: CustomizedStripeRequest) -> Result<Bytes, StripeFailure> {
        let (request, overrides) = request.into_pieces();
        let key = match &overrides.request_strategy {
            Some(stripe_client_core::RequestStrategy::Idempotent(key)) => {
                Some(key.as_str().to_owned())
            }
            _ => None,
        };
        let deadline = overrides.timeout.map(|time| Instant::now() + time);
        let account = overrides
            .account_id
            .as_ref()
            .map(|account| account.as_str().to_owned());
        self.raw(request, key.as_deref(), account.as_deref(), deadline)
            .await
    }
}

/// `/customers/cus_Q1x/subscriptions` → `/customers/{id}/subscriptions`: span names are few.
fn without_ids(path: &str) -> String {
    let is_id = |part: &str| {
        part.contains('_')
            && part
                .bytes()
                .any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    let parts: Vec<&str> = path
        .split('/')
        .map(|part| if is_id(part) { "{id}" } else { part })
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_names_hold_no_ids() {
        assert_eq!(
            without_ids("/customers/cus_Q1xYz/payment_methods"),
            "/customers/{id}/payment_methods"
        );
        assert_eq!(
            without_ids("/payment_methods/pm_card_visa/attach"),
            "/payment_methods/pm_card_visa/attach"
        );
        assert_eq!(without_ids("/subscriptions"), "/subscriptions");
    }
}
