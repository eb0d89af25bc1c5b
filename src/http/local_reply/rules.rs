//! `local_reply_config`: status, body and headers of replies as the operator wants them.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::access_log::{Live, Replies, ReplyFilter, ReplyFormat, Template};
use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model;
use crate::route::HeaderEdits;

/// Ready to be asked; of one worker.
pub struct Rules {
    replies: Replies,
    mappers: Vec<Mapper>,
    format: Option<Rc<Shape>>,
}

struct Mapper {
    filter: ReplyFilter,
    status: Option<StatusCode>,
    body: Option<Bytes>,
    format: Option<Rc<Shape>>,
    headers: HeaderEdits,
}

struct Shape {
    format: ReplyFormat,
    content_type: HeaderValue,
}

impl Rules {
    /// From the validated configuration.
    pub fn compile(model: &model::LocalReplies) -> Self {
        let mut replies = Replies::default();
        let mut shape = |model: &Option<model::ReplyFormat>| {
            let model::ReplyFormat { body, content_type } = model.as_ref()?;
            Some(Rc::new(Shape { format: replies.format(body), content_type: content_type.clone() }))
        };
        let format = shape(&model.format);
        let formats: Vec<_> = model.mappers.iter().map(|mapper| shape(&mapper.format)).collect();
        let mappers = model.mappers.iter().zip(formats).map(|(mapper, own)| Mapper {
            filter: replies.filter(&mapper.filter),
            status: mapper.status.and_then(|status| StatusCode::from_u16(status).ok()),
            body: mapper.body.clone(),
            format: own.or_else(|| format.clone()),
            headers: HeaderEdits::compile(&mapper.headers),
        });
        Self { mappers: mappers.collect(), format, replies }
    }

    /// Changes a reply: the first mapper whose filter fits, and the format. `live` says what is known of the request.
    pub(in crate::http) fn apply(
        &self,
        head: &mut ResponseHead,
        body: &mut Bytes,
        mut live: Live,
        request: Option<&RequestHead>,
    ) {
        live.context.status = head.status.as_u16().into();
        self.replies.keep(&mut live, request, head);
        let mapper = self.mappers.iter().find(|mapper| mapper.filter.passes(&live));
        let typed = head.headers.get(&header::CONTENT_TYPE).cloned();
        let mut shape = &self.format;
        if let Some(mapper) = mapper {
            let seen = head.clone();
            mapper.headers.apply(&mut head.headers, &mut |pieces| {
                let text = Template::compile(pieces).render(&mut live, request, Some(&seen));
                HeaderValue::from_bytes(&text).ok()
            });
            if let Some(status) = mapper.status {
                head.status = status;
                live.context.status = status.as_u16().into();
            }
            if let Some(text) = &mapper.body {
                *body = text.clone();
            }
            shape = &mapper.format;
            self.replies.keep(&mut live, request, head);
        }
        let mut content_type = HeaderValue::from_static("text/plain");
        if let Some(shape) = shape {
            live.reply = std::mem::take(body);
            *body = shape.format.render(&live).into();
            content_type = shape.content_type.clone();
        }
        // A mapper's own type is the last word.
        let chosen = head.headers.get(&header::CONTENT_TYPE).cloned().filter(|now| Some(now) != typed.as_ref());
        super::describe(head, body, chosen.unwrap_or(content_type));
    }
}
