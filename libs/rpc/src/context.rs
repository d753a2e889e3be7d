//! What a handler is given: who acts, for whom, within what. Only the server stack makes one.
//!
//! Deliberately absent: a public constructor, and ways to widen a scope. The signature is the proof.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_transcode::MethodInfo;
use mainstay_types::{
    AgencyId, AgencyScope, ApiKeyId, ClientId, MemberId, PersonId, ServiceName, SessionId, Tenant,
    Visible,
};
use tonic::{Request, Status};

use crate::authorise::Granted;
use crate::problem::Problem;
use crate::token::{Claims, Grant};

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person, as a member of the agency.
    Member {
        /// The membership.
        member: MemberId,
        /// The person.
        person: PersonId,
    },
    /// An API key.
    ApiKey {
        /// The key.
        key: ApiKeyId,
    },
    /// A service of ours, on its own account.
    Service(ServiceName),
    /// Nobody who has said so; methods for everyone only.
    Anonymous,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Member { member, .. } => member.fmt(f),
            Actor::ApiKey { key } => key.fmt(f),
            Actor::Service(service) => write!(f, "service:{service}"),
            Actor::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// One authorised call.
#[derive(Clone, Debug)]
pub struct Context {
    /// The agency that is acted in. For calls of services without an actor it is the nil id, which owns nothing: such
    /// handlers take the agency from their request through [`service_tenant`](Self::service_tenant).
    pub agency: AgencyId,
    /// Who acts.
    pub actor: Actor,
    /// Which service is on the wire.
    pub caller: ServiceName,
    /// Names the request in logs and audit rows.
    pub request_id: String,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The caller's key for repeats.
    pub idempotency_key: Option<String>,
    /// The method.
    pub method: &'static MethodInfo,
    pub(crate) scope: Granted,
    pub(crate) claims: Option<Arc<Claims>>,
    pub(crate) actor_token: Option<Arc<str>>,
}

impl Context {
    /// The one client that a SCOPE_CLIENT call is about, proven to be the agency's and visible to the actor.
    ///
    /// # Panics
    /// When the method's scope is another: a mistake of the program.
    pub fn tenant(&self) -> Tenant {
        match &self.scope {
            Granted::Client(tenant) => *tenant,
            other => panic!(
                "{} asks for one client, but its scope is {other:?}",
                self.method.path
            ),
        }
    }

    /// The agency and the clients whose rows may be shown.
    ///
    /// # Panics
    /// When the method is for services or everyone: a mistake of the program.
    pub fn agency_scope(&self) -> AgencyScope {
        match &self.scope {
            Granted::Agency(scope) => scope.clone(),
            Granted::Client(tenant) => AgencyScope {
                agency: tenant.agency,
                visible: Visible::Only(vec![tenant.client]),
            },
            other => panic!(
                "{} asks for an agency, but its scope is {other:?}",
                self.method.path
            ),
        }
    }

    /// A client that another service names. For methods of services only: their callers are ours and authenticated.
    ///
    /// # Errors
    /// When the method is not one of services.
    pub fn service_tenant(&self, agency: AgencyId, client: ClientId) -> Result<Tenant, Problem> {
        self.service_only().map(|()| Tenant { agency, client })
    }

    /// The whole of an agency that another service names, as [`service_tenant`](Self::service_tenant).
    ///
    /// # Errors
    /// When the method is not one of services.
    pub fn service_agency(&self, agency: AgencyId) -> Result<AgencyScope, Problem> {
        self.service_only().map(|()| AgencyScope {
            agency,
            visible: Visible::All,
        })
    }

    fn service_only(&self) -> Result<(), Problem> {
        match self.scope {
            Granted::Service => Ok(()),
            _ => Err(Problem::internal(format!(
                "{} takes a tenant from its request",
                self.method.path
            ))),
        }
    }

    /// Who acts, as audit rows and idempotency scopes spell it: `mem_…`, `key_…`, `service:billing`.
    pub fn principal(&self) -> String {
        self.actor.to_string()
    }

    /// What the actor may: facts of its token, for "nobody grants what they lack". Empty without an actor.
    pub fn grants(&self) -> &[Grant] {
        self.claims.as_ref().map_or(&[], |claims| &claims.grants)
    }

    /// The session that the actor is signed in with; none with an API key.
    pub fn session(&self) -> Option<SessionId> {
        self.claims.as_ref().and_then(|claims| claims.ses)
    }

    /// How long the caller still waits.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// What every handler begins with.
///
/// # Errors
/// `INTERNAL` when the call did not come through the server stack.
pub fn open<T>(mut request: Request<T>) -> Result<(Context, T), Status> {
    let context = request.extensions_mut().remove::<Context>();
    let context = context
        .ok_or_else(|| Problem::internal("a handler was reached around the server stack"))?;
    Ok((context, request.into_inner()))
}
