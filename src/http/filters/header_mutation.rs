//! `envoy.filters.http.header_mutation`: adds and removes headers of requests and responses, one after the other as they are listed.
//!
//! The chain's own come first, then those of the routes: from the most specific level to the least, or the other way round with
//! `most_specific_header_mutations_wins`. Values may have the operators of access logs; each sees what those before it did.
//!
//! Where nothing is done to responses a request is passed on as if this filter were not there; else it stays with its worker until the
//! response's head has come.

use std::rc::Rc;

use http::HeaderValue;

use self::settings::{Mutation, Mutations, Settings};
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use super::super::forward::rewrite;
use crate::codec::head::{Headers, RequestHead, ResponseHead};
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::{self, AppendAction, HeaderText, Piece};

mod settings;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        settings: settings::read,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
            settings: settings::read_route,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings = with.model.settings.clone();
    settings.get::<Settings>().ok_or("has no settings of its own")?;
    Ok(Rc::new(HeaderMutations { settings }))
}

struct HeaderMutations {
    settings: model::Settings,
}

impl Filter for HeaderMutations {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let mut of_routes = next.all_route_settings();
        let own = self.settings.get::<Settings>();
        if !own.is_some_and(|settings| settings.most_specific_wins) {
            of_routes.reverse();
        }
        let of_routes = move |work: &mut dyn FnMut(&Mutations)| {
            own.map(|settings| &settings.mutations)
                .into_iter()
                .chain(of_routes.iter().filter_map(|said| said.get::<Mutations>()))
                .for_each(work);
        };
        let (mut in_response, mut with_request) = (false, false);
        of_routes(&mut |mutations| {
            for mutation in &mutations.request {
                mutation.apply_to_request(&mut request.head, next);
            }
            in_response |= !mutations.response.is_empty();
            with_request |= mutations.response.iter().any(Mutation::has_format);
        });
        if !in_response {
            return next.run(request);
        }
        let seen = with_request.then(|| Box::new(request.head.clone()));
        Answer::later(async move {
            let mut response = next.run(request).await?;
            of_routes(&mut |mutations| {
                for mutation in &mutations.response {
                    mutation.apply_to_response(&mut response.head, seen.as_deref(), next);
                }
            });
            Ok(response)
        })
    }

    fn dress<'a>(&'a self, reply: &mut Response<'a>, next: Next<'a>) {
        let mut of_routes = next.all_route_settings();
        let own = self.settings.get::<Settings>();
        if !own.is_some_and(|settings| settings.most_specific_wins) {
            of_routes.reverse();
        }
        let request = next.stream().record().head.borrow();
        let own = own.map(|settings| &settings.mutations).into_iter();
        for mutations in own.chain(of_routes.iter().filter_map(|said| said.get::<Mutations>())) {
            for mutation in &mutations.response {
                mutation.apply_to_response(&mut reply.head, request.as_deref(), next);
            }
        }
    }
}

impl Mutation {
    fn has_format(&self) -> bool {
        matches!(self, Self::Add(addition) if matches!(addition.value, HeaderText::Format(_)))
    }

    fn apply_to_request(&self, head: &mut RequestHead, next: Next<'_>) {
        let added = self.value(|pieces| rewrite::value(pieces, next.stream(), Some(head), None));
        self.apply(&mut head.headers, added);
    }

    fn apply_to_response(&self, head: &mut ResponseHead, request: Option<&RequestHead>, next: Next<'_>) {
        let added = self.value(|pieces| rewrite::value(pieces, next.stream(), request, Some(head)));
        self.apply(&mut head.headers, added);
    }

    /// What is added, if anything is.
    fn value(&self, format: impl FnOnce(&[Piece]) -> Option<HeaderValue>) -> Option<HeaderValue> {
        let Self::Add(addition) = self else { return None };
        let value = match &addition.value {
            HeaderText::Fixed(value) => Some(value.clone()),
            HeaderText::Format(pieces) => format(pieces),
        };
        value.filter(|value| addition.keep_empty || !value.is_empty())
    }

    fn apply(&self, headers: &mut Headers, added: Option<HeaderValue>) {
        match self {
            Self::Remove(name) => {
                headers.remove(name);
            }
            Self::RemoveMatching(matcher) => headers.retain(|name, _| !matcher.matches(name.as_str().as_bytes())),
            Self::Add(addition) => {
                let Some(value) = added else { return };
                let name = &addition.name;
                match addition.action {
                    AppendAction::AddIfAbsent if headers.contains(name) => {}
                    AppendAction::OverwriteIfExists if !headers.contains(name) => {}
                    AppendAction::AppendIfExistsOrAdd | AppendAction::AddIfAbsent => {
                        headers.append(name.clone(), value);
                    }
                    AppendAction::OverwriteIfExistsOrAdd | AppendAction::OverwriteIfExists => {
                        headers.remove(name);
                        headers.append(name.clone(), value);
                    }
                }
            }
        }
    }
}
