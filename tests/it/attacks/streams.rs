//! HTTP/2: fields that stand for a request's line, and frames that make up its body.

use super::row::{Effect, FRESH, LOOK, NONE, REFRESH, TOUCH, filled};
use crate::harness::World;
use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, Frame, Frames, HEADERS, Outcome};

const PAID: &str = "/v2/reputation/numbers/+{n}?fresh=true";
const REFRESHED: &str = "/v2/enterprises/{e}/reputation/numbers/refresh";
const BODY: &str = r#"{"phone_numbers":["+{n}"]}"#;
const KEY: (&str, &str) = ("authorization", "Bearer key-of-attacker");
/// `PROTOCOL_ERROR` of the stream, and of the connection.
const RESET: Outcome = Outcome::Reset(1);
const ENDED: Outcome = Outcome::Ended(Some(1));

/// One attack over HTTP/2.
pub(super) struct Stream {
    pub(super) name: &'static str,
    pub(super) effect: Effect,
    frames: Vec<Frame>,
    outcome: Outcome,
}

impl Stream {
    /// How the request ends, and how the next one on the connection does.
    pub(super) fn expected(&self) -> (Outcome, Outcome) {
        (self.outcome, if self.outcome == ENDED { Outcome::Ended(None) } else { Outcome::Answered(403) })
    }

    pub(super) async fn outcome(&self, world: &World) -> (Outcome, Outcome) {
        // SETTINGS_HEADER_TABLE_SIZE is 0, so that each status is there in full.
        let mut connection = Frames::with(world.gateway, &[(1, 0)]).await;
        connection.send(&self.frames).await;
        let outcome = connection.outcome(1).await;
        let next = head("GET", "/v2/none", &[KEY]);
        connection.send(&[Frame { stream: 3, ..Frame::fields(HEADERS, END_HEADERS | END_STREAM, 3, &borrowed(&next)) }]).await;
        (outcome, connection.outcome(3).await)
    }
}

type Fields = Vec<(String, String)>;

fn borrowed(fields: &Fields) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Pseudo-fields, and others behind them.
fn head(method: &str, path: &str, others: &[(&str, &str)]) -> Fields {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "gateway"), (":path", path)];
    pseudo.iter().chain(others).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn streams() -> Vec<Stream> {
    let mut rows = Vec::new();
    heads(&mut rows);
    bodies(&mut rows);
    rows
}

/// A GET of what would be billed, with other values for its fields (none: without the field) and with more fields.
fn heads(rows: &mut Vec<Stream>) {
    use Outcome::Answered;
    for (name, replaced, added, outcome, effect) in [
        ("an honest purchase", &[][..], &[][..], Answered(200), FRESH),
        ("a purchase by https", &[(":scheme", Some("https"))], &[], Answered(200), FRESH),
        ("host in the place of :authority", &[(":authority", None)], &[("host", "gateway")], Answered(200), FRESH),
        ("host beside an equal :authority", &[], &[("host", "gateway")], Answered(200), FRESH),
        ("host beside another :authority", &[], &[("host", "api.telnyx.com")], Answered(400), NONE),
        ("host twice", &[], &[("host", "gateway"), ("host", "gateway")], Answered(400), NONE),
        ("neither host nor :authority", &[(":authority", None)], &[], Answered(400), NONE),
        (":authority with a user", &[(":authority", Some("user@gateway"))], &[], Answered(400), NONE),
        (":authority twice", &[], &[(":authority", "gateway")], RESET, NONE),
        (":path twice", &[], &[(":path", "/v2/reputation/numbers/+{m}")], RESET, NONE),
        (":path behind a field", &[(":path", None)], &[KEY, (":path", PAID)], RESET, NONE),
        ("no :path", &[(":path", None)], &[], RESET, NONE),
        ("an empty :path", &[(":path", Some(""))], &[], RESET, NONE),
        (":path without a slash", &[(":path", Some("v2/reputation/numbers/+{n}"))], &[], RESET, NONE),
        (":path with a whole URL", &[(":path", Some("http://gateway/v2/reputation/numbers/+{n}"))], &[], RESET, NONE),
        (":path with another request", &[(":path", Some("/v2/none HTTP/1.1\r\n\r\nGET /v2/reputation/numbers/+{n}"))], &[], RESET, NONE),
        (":path with dot segments", &[(":path", Some("/v2/x/../reputation/numbers/+{n}"))], &[], Answered(400), NONE),
        (":path with fresh twice", &[(":path", Some("/v2/reputation/numbers/+{n}?fresh=0&fresh=1"))], &[], Answered(400), NONE),
        (":path with fresh as a list", &[(":path", Some("/v2/reputation/numbers/+{n}?fresh[]=1"))], &[], Answered(200), TOUCH),
        ("no :method", &[(":method", None)], &[], RESET, NONE),
        (":method twice", &[], &[(":method", "DELETE")], RESET, NONE),
        (":method in lower case", &[(":method", Some("get"))], &[], Answered(405), NONE),
        (":method of HEAD", &[(":method", Some("HEAD"))], &[], Answered(200), LOOK),
        ("no :scheme", &[(":scheme", None)], &[], RESET, NONE),
        (":scheme of another kind", &[(":scheme", Some("ftp"))], &[], Answered(400), NONE),
        (":status in a request", &[], &[(":status", "200")], RESET, NONE),
        (":protocol", &[(":method", Some("CONNECT"))], &[(":protocol", "websocket")], RESET, NONE),
        ("a name in upper case", &[], &[("X-Upper", "a")], ENDED, NONE),
        ("a line's end in a value", &[], &[("x", "a\r\ncontent-length: 5")], ENDED, NONE),
        ("connection", &[], &[("connection", "authorization")], RESET, NONE),
        ("keep-alive", &[], &[("keep-alive", "timeout=5")], RESET, NONE),
        ("transfer-encoding", &[], &[("transfer-encoding", "chunked")], RESET, NONE),
        ("upgrade", &[], &[("upgrade", "h2c")], RESET, NONE),
        ("te of gzip", &[], &[("te", "gzip")], RESET, NONE),
        ("te of trailers", &[], &[("te", "trailers")], Answered(200), FRESH),
        ("an override of the method", &[], &[("x-http-method-override", "POST")], Answered(200), FRESH),
        ("two keys", &[], &[("authorization", "Bearer wrong")], Answered(401), NONE),
        ("a length without a body", &[], &[("content-length", "5")], RESET, NONE),
        ("a length of 0", &[], &[("content-length", "0")], Answered(200), FRESH),
        ("two lengths of 0", &[], &[("content-length", "0"), ("content-length", "0")], Answered(400), NONE),
    ] {
        let mut fields = head("GET", PAID, &[]);
        for (name, value) in replaced {
            let at = fields.iter().position(|field| field.0 == *name).expect("a pseudo-field");
            match value {
                Some(value) => (*value).clone_into(&mut fields[at].1),
                None => drop(fields.remove(at)),
            }
        }
        fields.extend(added.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        if !added.contains(&KEY) {
            fields.push((KEY.0.to_owned(), KEY.1.to_owned()));
        }
        push(rows, name, (&fields, &[]), outcome, effect);
    }
}

/// A refresh whose body is what its frames say, whatever its fields and trailers do.
fn bodies(rows: &mut Vec<Stream>) {
    use Outcome::Answered;
    let length = (BODY.len() - "{n}".len() + 11).to_string();
    let more = format!("{BODY} ");
    for (name, method, path, fields, body, outcome, effect) in [
        ("an honest refresh", "POST", REFRESHED, &[][..], &[BODY][..], Answered(200), REFRESH),
        ("a refresh in two frames", "POST", REFRESHED, &[], &[r#"{"phone_numbers":"#, r#"["+{n}"]}"#], Answered(200), REFRESH),
        ("a refresh with empty frames", "POST", REFRESHED, &[], &["", BODY, ""], Answered(200), REFRESH),
        ("a refresh with its length", "POST", REFRESHED, &[("content-length", &*length)], &[BODY], Answered(200), REFRESH),
        ("a body beyond its length", "POST", REFRESHED, &[("content-length", &*length)], &[&*more], RESET, NONE),
        ("a body beyond a length of 0", "POST", REFRESHED, &[("content-length", "0")], &[BODY], RESET, NONE),
        ("a body short of its length", "POST", REFRESHED, &[("content-length", "999")], &[BODY], RESET, NONE),
        ("two objects in two frames", "POST", REFRESHED, &[], &[BODY, r#"{"phone_numbers":["+{m}"]}"#], Answered(400), NONE),
        ("a body of GET", "GET", PAID, &[], &[BODY], Answered(400), NONE),
        ("a body of DELETE", "DELETE", "/v2/reputation/numbers/+{n}", &[], &[BODY], Answered(400), NONE),
        ("no byte of GET", "GET", PAID, &[], &[""], Answered(200), FRESH),
    ] {
        let fields: Vec<_> = fields.iter().copied().chain([KEY]).collect();
        push(rows, name, (&head(method, path, &fields), body), outcome, effect);
    }
    for (name, trailers, outcome, effect) in [
        ("trailers", &[("authorization", "Bearer other"), ("content-length", "5")][..], Outcome::Answered(200), REFRESH),
        ("trailers with :path, which are dropped", &[(":path", "/v2/reputation/numbers/+{m}")], Outcome::Answered(200), REFRESH),
    ] {
        let place = rows.len();
        push(rows, name, (&head("POST", REFRESHED, &[KEY]), &[BODY]), outcome, effect);
        let row = rows.last_mut().expect("a row");
        row.frames.last_mut().expect("the body").flags = 0;
        let trailers: Fields = trailers.iter().map(|(name, value)| ((*name).to_owned(), filled(value, place))).collect();
        row.frames.push(Frame::fields(HEADERS, END_HEADERS | END_STREAM, 1, &borrowed(&trailers)));
    }
}

fn push(rows: &mut Vec<Stream>, name: &'static str, (fields, body): (&Fields, &[&str]), outcome: Outcome, effect: Effect) {
    let place = rows.len();
    let fields: Fields = fields.iter().map(|(name, value)| (name.clone(), filled(value, place))).collect();
    let last = |is_last: bool| if is_last { END_STREAM } else { 0 };
    let mut frames = vec![Frame::fields(HEADERS, END_HEADERS | last(body.is_empty()), 1, &borrowed(&fields))];
    for (at, part) in body.iter().enumerate() {
        let payload = filled(part, place).into_bytes();
        frames.push(Frame { kind: DATA, flags: last(at + 1 == body.len()), stream: 1, payload });
    }
    rows.push(Stream { name, effect, frames, outcome });
}
