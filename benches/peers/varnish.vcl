vcl 4.1;
# The built-in rules let requests with Authorization pass: here they are looked up like any others.
backend origin {
    .host = "127.0.0.1";
    .port = "@ORIGIN@";
}
sub vcl_recv {
    return (hash);
}
