//! The methods of all services and what each says about itself, read from a descriptor set.
//! A set that says too little is refused whole, with every fault named.
//! Deliberately absent: enforcement; the gateway routes by this, `libs/rpc` authorises by this.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use mainstay_proto::{
    errors::v1::ErrorReason,
    options::v1::{Access, AccessKind, Idempotency, RateClass, Rpc, Scope},
};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor, Value,
};

use crate::{
    ReasonInfo, Violation,
    route::{Found, NotRouted, RouteTable},
    rules,
    shape::{Compiler, MessageShape, Shapes},
};

/// Everything that can be called, and the ways it can refuse.
pub struct Schema {
    pool: DescriptorPool,
    shapes: Arc<Shapes>,
    methods: Vec<MethodInfo>,
    by_path: HashMap<String, usize>,
    routes: RouteTable,
    reasons: Vec<ReasonInfo>,
}

/// One RPC and what its options say.
#[derive(Debug)]
pub struct MethodInfo {
    /// The gRPC path: `/mainstay.billing.v1.PlanService/CreatePlan`.
    pub path: String,
    /// The service's full name: `mainstay.billing.v1.PlanService`.
    pub service: String,
    /// The method's own name: `CreatePlan`.
    pub name: String,
    /// The context that serves it: `billing`.
    pub context: String,
    /// REST bindings; empty for internal methods.
    pub bindings: Vec<Binding>,
    /// Who may call, as declared.
    pub access: Access,
    /// How it behaves, as declared.
    pub rpc: Rpc,
    /// The request's descriptor.
    pub input: MessageDescriptor,
    /// The answer's descriptor.
    pub output: MessageDescriptor,
    /// The request field that names the client, when the scope is one client.
    pub client_field: Option<FieldDescriptor>,
    /// Whether either side streams; streaming methods have no REST binding.
    pub streaming: bool,
    /// The comment above it.
    pub docs: String,
    /// The comment above its service.
    pub service_docs: String,
    pub(crate) shapes: Arc<Shapes>,
    pub(crate) input_shape: usize,
    pub(crate) output_shape: usize,
}

/// One REST address of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The HTTP verb.
    pub verb: Verb,
    /// The path: `/v1/clients/{client_id}/subscriptions`.
    pub template: String,
    /// The fields that the path fills, in order.
    pub path_fields: Vec<String>,
    /// What the body fills.
    pub body: Body,
}

/// What the body fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none: what the path leaves is filled by the query.
    None,
    /// All fields that the path leaves.
    All,
}

/// The HTTP verbs that methods use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl Verb {
    /// As HTTP spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }

    /// Reads HTTP's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Verb::Get, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete]
            .into_iter()
            .find(|verb| verb.as_str() == text)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All that is wrong with a descriptor set.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The bytes are no descriptor set.
    #[error("the descriptor set cannot be read: {0}")]
    Unreadable(#[from] prost_reflect::DescriptorError),
    /// The protos say too little or contradict themselves.
    #[error("the protos are incomplete:\n  {}", .0.join("\n  "))]
    Incomplete(Vec<String>),
}

static MAINSTAY: LazyLock<Result<Schema, SchemaError>> =
    LazyLock::new(|| Schema::from_descriptor_set(mainstay_proto::FILE_DESCRIPTOR_SET));

impl Schema {
    /// Mainstay's own, read once. Its build checks that it loads, so a failure here is a broken build.
    pub fn mainstay() -> &'static Schema {
        match &*MAINSTAY {
            Ok(schema) => schema,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads a descriptor set (`google.protobuf.FileDescriptorSet`, with imports and source info).
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, SchemaError> {
        Self::from_pool(DescriptorPool::decode(bytes)?)
    }

    /// Reads a pool.
    pub fn from_pool(pool: DescriptorPool) -> Result<Self, SchemaError> {
        let mut compiler = Compiler::new(&pool);
        let mut problems = Vec::new();
        let mut drafts = Vec::new();
        for service in pool.services() {
            // Health and reflection are not ours to describe.
            if !service.full_name().starts_with("mainstay.") {
                continue;
            }
            for method in service.methods() {
                match Draft::read(&pool, &method, &mut compiler) {
                    Ok(draft) => drafts.push(draft),
                    Err(faults) => problems.extend(faults),
                }
            }
        }
        let reasons = crate::reason::read(&pool, &mut problems);
        for info in &reasons {
            if let Some(detail) = info
                .detail
                .as_deref()
                .and_then(|name| pool.get_message_by_name(name))
            {
                compiler.message(&detail);
            }
        }
        let (shapes, faults) = compiler.finish();
        problems.extend(faults);
        let shapes = Arc::new(shapes);
        let methods: Vec<MethodInfo> = drafts
            .into_iter()
            .map(|draft| draft.finish(Arc::clone(&shapes), &mut problems))
            .collect();
        let by_path = methods
            .iter()
            .enumerate()
            .map(|(at, method)| (method.path.clone(), at))
            .collect();
        let routes = RouteTable::build(&methods, &mut problems);
        if problems.is_empty() {
            Ok(Self {
                pool,
                shapes,
                methods,
                by_path,
                routes,
                reasons,
            })
        } else {
            problems.sort();
            problems.dedup();
            Err(SchemaError::Incomplete(problems))
        }
    }

    /// All methods, internal ones too.
    pub fn methods(&self) -> &[MethodInfo] {
        &self.methods
    }

    /// The method of a gRPC path (`/package.Service/Method`).
    pub fn method(&self, path: &str) -> Option<&MethodInfo> {
        self.by_path.get(path).map(|at| &self.methods[*at])
    }

    /// The method that answers a REST request.
    pub fn route(&self, verb: &str, path: &str) -> Result<Found<'_>, NotRouted> {
        self.routes.find(&self.methods, verb, path)
    }

    /// Every reason to refuse, in the protos' order.
    pub fn reasons(&self) -> &[ReasonInfo] {
        &self.reasons
    }

    /// What one reason says about itself.
    pub fn reason(&self, reason: ErrorReason) -> Option<&ReasonInfo> {
        self.reasons.iter().find(|info| info.reason == reason)
    }

    /// The descriptors behind it.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    pub(crate) fn shapes(&self) -> &Shapes {
        &self.shapes
    }
}

impl MethodInfo {
    /// Who may call.
    pub fn access_kind(&self) -> AccessKind {
        match self.access.kind() {
            AccessKind::Unspecified => AccessKind::Actor,
            kind => kind,
        }
    }

    /// The wall it stays behind; for actors only.
    pub fn scope(&self) -> Scope {
        self.access.scope()
    }

    /// What makes a repeat harmless.
    pub fn idempotency(&self) -> Idempotency {
        self.rpc.idempotency()
    }

    /// Its class of rate limit.
    pub fn rate_class(&self) -> RateClass {
        self.rpc.rate_class()
    }

    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        self.idempotency() == Idempotency::Read
    }

    /// The HTTP status of success.
    pub fn success_status(&self) -> u16 {
        u16::try_from(self.rpc.success_status)
            .ok()
            .filter(|status| *status != 0)
            .unwrap_or(200)
    }

    /// The second success status, when it has one.
    pub fn accepted_status(&self) -> Option<u16> {
        u16::try_from(self.rpc.accepted_status)
            .ok()
            .filter(|status| *status != 0)
    }

    /// The reasons it declares, beside the common ones.
    pub fn errors(&self) -> impl Iterator<Item = ErrorReason> + '_ {
        self.rpc.errors()
    }

    /// Whether callers outside reach it; only their input is held to the default limits.
    pub fn is_public(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// Everything that its rules say against a request. Empty is good.
    pub fn check_rules(&self, request: &DynamicMessage) -> Vec<Violation> {
        let mut out = rules::check(
            &self.shapes,
            self.input_shape(),
            request,
            self.is_public(),
            &[],
        );
        for name in self.always_required() {
            let absent = !request.has_field_by_name(name);
            if absent && out.iter().all(|known| known.field != name) {
                out.push(crate::violation(name, "is required"));
            }
        }
        out
    }

    /// The client id that the request names, as text; `None` when it is absent.
    pub fn client_id(&self, request: &DynamicMessage) -> Option<String> {
        let field = self.client_field.as_ref()?;
        if !request.has_field(field) {
            return None;
        }
        match request.get_field(field).as_ref() {
            Value::String(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub(crate) fn input_shape(&self) -> &MessageShape {
        self.shapes.get(self.input_shape)
    }

    pub(crate) fn output_shape(&self) -> &MessageShape {
        self.shapes.get(self.output_shape)
    }

    // Fields that every REST address fills from its path cannot be left out by a gRPC caller either.
    fn always_required(&self) -> impl Iterator<Item = &str> {
        let first = self.bindings.first();
        first
            .into_iter()
            .flat_map(|binding| &binding.path_fields)
            .filter(|name| {
                self.bindings
                    .iter()
                    .all(|binding| binding.path_fields.contains(name))
            })
            .map(String::as_str)
    }
}

/// A method before the shapes are complete.
struct Draft {
    method: MethodDescriptor,
    access: Access,
    rpc: Rpc,
    bindings: Vec<Binding>,
    docs: String,
    service_docs: String,
    input_shape: usize,
    output_shape: usize,
}

impl Draft {
    fn read(
        pool: &DescriptorPool,
        method: &MethodDescriptor,
        compiler: &mut Compiler,
    ) -> Result<Self, Vec<String>> {
        let name = method.full_name();
        let mut faults = Vec::new();
        let access: Option<Access> = option(pool, method, "mainstay.options.v1.access");
        let rpc: Option<Rpc> = option(pool, method, "mainstay.options.v1.rpc");
        if access.is_none() {
            faults.push(format!("{name}: no (mainstay.options.v1.access) option"));
        }
        if rpc.is_none() {
            faults.push(format!("{name}: no (mainstay.options.v1.rpc) option"));
        }
        let bindings = crate::route::bindings(pool, method, &mut faults);
        let (Some(access), Some(rpc), true) = (access, rpc, faults.is_empty()) else {
            return Err(faults);
        };
        faults.extend(contradictions(name, &access, &rpc, &bindings));
        if !faults.is_empty() {
            return Err(faults);
        }
        let file = method.parent_file();
        Ok(Self {
            access,
            rpc,
            bindings,
            docs: compiler.docs().get(&file, method.path()),
            service_docs: compiler.docs().get(&file, method.parent_service().path()),
            input_shape: compiler.message(&method.input()),
            output_shape: compiler.message(&method.output()),
            method: method.clone(),
        })
    }

    fn finish(self, shapes: Arc<Shapes>, problems: &mut Vec<String>) -> MethodInfo {
        let service = self.method.parent_service().full_name().to_owned();
        let name = self.method.name().to_owned();
        let input = shapes.get(self.input_shape);
        for shape in [input, shapes.get(self.output_shape)] {
            if shape.plain_list().is_some() {
                problems.push(format!(
                    "{service}.{name}: {} is a plain list; requests and answers are objects",
                    shape.full_name
                ));
            }
        }
        for binding in &self.bindings {
            for field in &binding.path_fields {
                if !input
                    .field(field)
                    .is_some_and(crate::shape::FieldShape::is_plain)
                {
                    problems.push(format!(
                        "{service}.{name}: path field {{{field}}} is no scalar field of {}",
                        input.full_name
                    ));
                }
            }
        }
        let client_field = (self.access.scope() == Scope::Client)
            .then(|| {
                let found = input
                    .fields
                    .iter()
                    .find(|field| field.resource.as_deref() == Some("client"));
                if found.is_none() {
                    problems.push(format!(
                        "{service}.{name}: SCOPE_CLIENT needs a request field whose resource is \"client\""
                    ));
                }
                found.map(|field| field.descriptor.clone())
            })
            .flatten();
        MethodInfo {
            path: format!("/{service}/{name}"),
            context: service.split('.').nth(1).unwrap_or_default().to_owned(),
            streaming: self.method.is_client_streaming() || self.method.is_server_streaming(),
            input: self.method.input(),
            output: self.method.output(),
            service,
            name,
            bindings: self.bindings,
            access: self.access,
            rpc: self.rpc,
            client_field,
            docs: self.docs,
            service_docs: self.service_docs,
            input_shape: self.input_shape,
            output_shape: self.output_shape,
            shapes,
        }
    }
}

fn contradictions(name: &str, access: &Access, rpc: &Rpc, bindings: &[Binding]) -> Vec<String> {
    let mut out = Vec::new();
    let kind = match access.kind() {
        AccessKind::Unspecified
            if access.permission.is_empty() && access.scope() != Scope::Self_ =>
        {
            out.push(format!(
                "{name}: access names neither a kind nor a permission"
            ));
            return out;
        }
        AccessKind::Unspecified => AccessKind::Actor,
        kind => kind,
    };
    if kind == AccessKind::Actor {
        if access.scope() == Scope::Unspecified {
            out.push(format!("{name}: access of actors needs a scope"));
        }
        if access.scope() != Scope::Self_ && access.permission.is_empty() {
            out.push(format!("{name}: access of actors needs a permission"));
        }
    }
    if kind == AccessKind::Service {
        if access.callers.is_empty() {
            out.push(format!("{name}: access of services needs callers"));
        }
        if !bindings.is_empty() {
            out.push(format!(
                "{name}: a method of services is never routed from outside"
            ));
        }
    }
    if rpc.idempotency() == Idempotency::Unspecified {
        out.push(format!("{name}: rpc needs an idempotency"));
    }
    if rpc.rate_class() == RateClass::Unspecified {
        out.push(format!("{name}: rpc needs a rate class"));
    }
    out
}

fn option<T: prost::Message + Default>(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
    name: &str,
) -> Option<T> {
    let extension = pool.get_extension_by_name(name)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let value = options.get_extension(&extension);
    value.as_message()?.transcode_to::<T>().ok()
}
