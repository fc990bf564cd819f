//! The routes: every `google.api.http` rule of every service, read out of the descriptors once, and found again by method and path.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use http::{HeaderName, Method, StatusCode, uri::PathAndQuery};
use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, MethodDescriptor, Value};

use crate::{
    shape::{Many, MessageRef, Shapes},
    template::{Path, Template},
};

pub(crate) struct Routes {
    pub(crate) shapes: Arc<Shapes>,
    /// The more literal template first.
    routes: Vec<Arc<Route>>,
}

/// One binding of one gRPC method.
pub(crate) struct Route {
    /// Of its span: the template, not the path, so that there are few.
    pub(crate) name: String,
    pub(crate) method: Method,
    template: Template,
    /// Places of the fields that the path fills, in the order of the captures.
    pub(crate) variables: Vec<Vec<usize>>,
    /// Header and the place of the field it fills.
    pub(crate) headers: Vec<(HeaderName, Vec<usize>)>,
    pub(crate) body: Body,
    /// The one field of the answer that is the body.
    pub(crate) response_body: Option<usize>,
    pub(crate) call: Call,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    /// `*`: the whole request.
    Whole,
    /// One field of it.
    Field(usize),
}

/// The gRPC side of a route.
#[derive(Clone)]
pub(crate) struct Call {
    /// Full name of the service.
    pub(crate) service: String,
    pub(crate) path: PathAndQuery,
    pub(crate) input: MessageRef,
    pub(crate) output: MessageRef,
    pub(crate) streaming: bool,
    /// Of a success.
    pub(crate) status: StatusCode,
}

pub(crate) enum Found<'r, 'p> {
    /// With what the variables take of the path, still percent-encoded.
    Route(&'r Arc<Route>, Vec<Cow<'p, str>>),
    /// The path is there under these methods only.
    OtherMethods(Vec<&'r Method>),
    Nothing,
}

impl Routes {
    pub(crate) fn read(pool: &DescriptorPool) -> Result<Self> {
        let rules = pool.get_extension_by_name("google.api.http").context("the descriptors lack google.api.http")?;
        let status = pool.get_extension_by_name("settle.common.v1.http_status");
        let mut shapes = Shapes::new(pool);
        let mut routes = Vec::new();
        for service in pool.services() {
            for method in service.methods() {
                let options = method.options();
                if !options.has_extension(&rules) {
                    continue;
                }
                let value = options.get_extension(&rules);
                let rule = value.as_message().context("google.api.http is not a message")?;
                let call = call(&mut shapes, &method, success(&options, status.as_ref())?)?;
                bind(&shapes, rule, &call, &mut routes).with_context(|| format!("the HTTP rule of {}", method.full_name()))?;
            }
        }
        unique(&routes)?;
        routes.sort_by_key(|route| route.template.rank());
        Ok(Self { shapes: Arc::new(shapes), routes: routes.into_iter().map(Arc::new).collect() })
    }

    pub(crate) fn find<'r, 'p>(&'r self, method: &Method, path: &'p str) -> Found<'r, 'p> {
        let Some(path) = Path::split(path) else { return Found::Nothing };
        let mut others = Vec::new();
        for route in &self.routes {
            let Some(captures) = route.template.captures(&path) else { continue };
            // HEAD is GET without its body, which the HTTP server leaves out.
            if route.method == *method || (route.method == Method::GET && *method == Method::HEAD) {
                return Found::Route(route, captures);
            }
            if !others.contains(&&route.method) {
                others.push(&route.method);
            }
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
    }
}

fn unique(routes: &[Route]) -> Result<()> {
    let mut names = HashSet::new();
    for route in routes {
        ensure!(names.insert(route.name.as_str()), "two methods are bound to {}", route.name);
    }
    Ok(())
}

/// The binding of a rule and of its additional bindings, which share everything but the way in.
fn bind(shapes: &Shapes, rule: &DynamicMessage, call: &Call, routes: &mut Vec<Route>) -> Result<()> {
    routes.push(route(shapes, rule, call)?);
    let Some(more) = rule.get_field_by_name("additional_bindings") else { return Ok(()) };
    for rule in more.as_list().unwrap_or_default().iter().filter_map(Value::as_message) {
        routes.push(route(shapes, rule, call)?);
    }
    Ok(())
}

fn route(shapes: &Shapes, rule: &DynamicMessage, call: &Call) -> Result<Route> {
    let (method, path) = pattern(rule)?;
    let template = Template::parse(&path)?;
    let mut variables = Vec::new();
    for field in template.fields() {
        let places = shapes.resolve(call.input, field);
        let places = places.with_context(|| format!("{path} names {field}, which is no field that a path can fill"))?;
        let single = shapes.along(call.input, &places).is_some_and(|(field, _)| matches!(field.many, Many::One));
        ensure!(single, "{path} fills {field}, which is a list");
        variables.push(places);
    }
    let place = |of: MessageRef, field: &str| {
        shapes.get(of).names.get(field).copied().with_context(|| format!("{path} names a field that is not there: {field}"))
    };
    let body = match text(rule, "body").as_str() {
        "" => Body::None,
        "*" => Body::Whole,
        field => Body::Field(place(call.input, field)?),
    };
    let response_body = match text(rule, "response_body").as_str() {
        "" => None,
        field => Some(place(call.output, field)?),
    };
    let fields = shapes.get(call.input).fields.iter().enumerate();
    let headers = fields.filter_map(|(place, field)| Some((field.header.clone()?, vec![place]))).collect();
    Ok(Route {
        name: format!("HTTP {method} {path}"),
        method,
        template,
        variables,
        headers,
        body,
        response_body,
        call: call.clone(),
    })
}

fn call(shapes: &mut Shapes, method: &MethodDescriptor, status: StatusCode) -> Result<Call> {
    ensure!(!method.is_client_streaming(), "{} streams its requests, which REST cannot", method.full_name());
    let service = method.parent_service().full_name().to_owned();
    let path = format!("/{service}/{}", method.name());
    Ok(Call {
        path: path.parse::<PathAndQuery>().with_context(|| format!("the gRPC path {path}"))?,
        service,
        input: shapes.add(&method.input())?,
        output: shapes.add(&method.output())?,
        streaming: method.is_server_streaming(),
        status,
    })
}

fn pattern(rule: &DynamicMessage) -> Result<(Method, String)> {
    let verbs =
        [("get", Method::GET), ("put", Method::PUT), ("post", Method::POST), ("delete", Method::DELETE), ("patch", Method::PATCH)];
    for (field, method) in verbs {
        if rule.has_field_by_name(field) {
            return Ok((method, text(rule, field)));
        }
    }
    let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
    let Some(custom) = custom.as_deref().and_then(Value::as_message) else { bail!("it has no pattern") };
    let kind = text(custom, "kind");
    let method = Method::from_bytes(kind.as_bytes()).with_context(|| format!("its method {kind:?}"))?;
    Ok((method, text(custom, "path")))
}

/// The status of a success: our option, else 200.
fn success(options: &DynamicMessage, status: Option<&ExtensionDescriptor>) -> Result<StatusCode> {
    let Some(status) = status.filter(|status| options.has_extension(status)) else { return Ok(StatusCode::OK) };
    let code = options.get_extension(status).as_i32().and_then(|code| u16::try_from(code).ok());
    let code = code.and_then(|code| StatusCode::from_u16(code).ok()).filter(StatusCode::is_success);
    code.context("http_status is not the status of a success")
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        Routes::read(&DescriptorPool::decode(contracts::DESCRIPTORS).unwrap()).unwrap()
    }

    fn found(routes: &Routes, method: &Method, path: &str) -> Option<(String, Vec<String>)> {
        match routes.find(method, path) {
            Found::Route(route, captures) => {
                Some((route.call.path.to_string(), captures.into_iter().map(Cow::into_owned).collect()))
            }
            _ => None,
        }
    }

    #[test]
    fn the_five_routes_of_orders() {
        let routes = routes();
        let expect = [
            (Method::POST, "/api/v1/orders", "CreateOrder", vec![], Body::Whole, None, 202, false),
            (Method::GET, "/api/v1/orders", "ListOrders", vec![], Body::None, None, 200, false),
            (Method::GET, "/api/v1/orders/7", "GetOrder", vec!["7".to_owned()], Body::None, Some("order"), 200, false),
            (Method::POST, "/api/v1/orders/7:cancel", "CancelOrder", vec!["7".to_owned()], Body::Whole, None, 200, false),
            (Method::GET, "/api/v1/orders/7:watch", "WatchOrder", vec!["7".to_owned()], Body::None, Some("order"), 200, true),
        ];
        for (method, path, name, captures, body, response_body, status, streaming) in expect {
            let Found::Route(route, taken) = routes.find(&method, path) else { panic!("{method} {path} is not there") };
            assert_eq!(route.call.path.path(), format!("/settle.order.v1.OrderService/{name}"));
            assert_eq!(taken, captures);
            assert_eq!(route.body, body);
            let only = route.response_body.map(|place| routes.shapes.get(route.call.output).fields[place].json.as_str());
            assert_eq!(only, response_body);
            assert_eq!(route.call.status.as_u16(), status);
            assert_eq!(route.call.streaming, streaming);
        }
        let Found::Route(create, _) = routes.find(&Method::POST, "/api/v1/orders") else { panic!("no create") };
        assert_eq!(create.name, "HTTP POST /api/v1/orders");
        assert_eq!(create.headers[0].0, "idempotency-key");
    }

    #[test]
    fn other_paths_and_methods() {
        let routes = routes();
        assert_eq!(found(&routes, &Method::GET, "/api/v1/nothing"), None);
        assert_eq!(found(&routes, &Method::GET, "/api/v1/orders/7:nothing"), None);
        assert_eq!(found(&routes, &Method::OPTIONS, "*"), None);
        assert_eq!(found(&routes, &Method::HEAD, "/api/v1/orders/7").unwrap().1, ["7"]);
        let Found::OtherMethods(allowed) = routes.find(&Method::DELETE, "/api/v1/orders") else { panic!("DELETE is there") };
        assert!(allowed.contains(&&Method::GET) && allowed.contains(&&Method::POST));
        let Found::OtherMethods(allowed) = routes.find(&Method::GET, "/api/v1/orders/7:cancel") else { panic!("GET cancels") };
        assert_eq!(allowed, [&Method::POST]);
    }
}
