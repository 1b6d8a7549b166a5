//! The page for operators: static files that are part of the program. All that it shows it asks of `/admin/v1`, with the operator's token.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};

use super::plain;
use crate::wire::body::Body;

/// Nothing is loaded from anywhere else, nothing written in the document runs, and no other page may show this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// One of them.
pub(super) struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

/// `uplot.js` and `uplot.css` are uPlot's own, as its package on npm has them.
const FILES: [File; 6] = [
    File { path: "/", content_type: HTML, content: include_str!("page/index.html") },
    File { path: "/page.css", content_type: CSS, content: include_str!("page/page.css") },
    File { path: "/page.js", content_type: SCRIPT, content: include_str!("page/page.js") },
    File { path: "/icon.svg", content_type: ICON, content: include_str!("page/icon.svg") },
    File { path: "/uplot.css", content_type: CSS, content: include_str!("page/uplot.css") },
    File { path: "/uplot.js", content_type: SCRIPT, content: include_str!("page/uplot.js") },
];

/// The file at a path.
pub(super) fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

impl File {
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = plain(StatusCode::OK, HeaderValue::from_static(self.content_type), self.content);
        let fields: [(HeaderName, &'static str); 4] = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            // A new version of the program has another page.
            (CACHE_CONTROL, "no-cache"),
        ];
        for (name, value) in fields {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
