//! Formats that are none.

use super::*;

#[test]
fn a_bad_format_is_refused_in_envoys_words() {
    for (format, fault) in [
        ("%FOO%", "Not supported field in StreamInfo: FOO"),
        ("%PROTOCOL", "Incorrect configuration: %PROTOCOL. Couldn't find valid command at position 0"),
        ("100%", "Incorrect configuration: 100%. Couldn't find valid command at position 3"),
        ("%protocol%", "Incorrect configuration: %protocol%. Couldn't find valid command at position 0"),
        ("%PROTOCOL%X%", "Incorrect configuration: %PROTOCOL%X%. Couldn't find valid command at position 11"),
        ("%PROTOCOL:5%", "PROTOCOL does not take any parameters or length"),
        ("%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"),
        ("%REQ%", "REQ requires parameters"),
        ("%REQ()%", "REQ requires parameters"),
        ("%REQ(a?b?c)%", "More than 1 alternative header specified in token: a?b?c"),
        ("%REQ(a):x%", "Incorrect configuration: %REQ(a):x%. Couldn't find valid command at position 0"),
        ("%REQ(a):%", "Incorrect configuration: %REQ(a):%. Couldn't find valid command at position 0"),
        ("%REQ(a:b)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(a", "Incorrect configuration: %REQ(a. Couldn't find valid command at position 0"),
        ("%START_TIME:5%", "START_TIME does not allow length to be specified."),
        ("%ENVIRONMENT()%", "ENVIRONMENT requires parameters"),
        ("%COMMON_DURATION(a)%", "Invalid common duration configuration: a."),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:s)%", "Invalid common duration precision: s."),
        ("%DOWNSTREAM_REMOTE_ADDRESS(16)%", "DOWNSTREAM_REMOTE_ADDRESS does not take any parameters or length"),
        ("%GRPC_STATUS(x)%", "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: x"),
        ("%PATH(XX)%", "Invalid PATH option: 'XX', only 'WQ'/'NQ' are allowed"),
        ("%RESPONSE_CODE_DETAILS:3%", "RESPONSE_CODE_DETAILS does not allow length to be specified."),
        ("%REQ_WITHOUT_QUERY(x)%", "Not supported field in StreamInfo: REQ_WITHOUT_QUERY"),
        ("%CEL(x)%", "%CEL% is not supported yet"),
        ("%DOWNSTREAM_WIRE_BYTES_SENT%", "%DOWNSTREAM_WIRE_BYTES_SENT% is not supported yet"),
        ("%REQ(\u{e9})%", "Invalid header configuration. Format string contains invalid characters."),
        (
            "%REQ(a):99999999999999999999999%",
            "Incorrect configuration: %REQ(a):99999999999999999999999%. Couldn't find valid command at position 0",
        ),
    ] {
        assert_eq!(format::text(format), Err(fault.to_owned()), "{format}");
    }
}

#[test]
fn the_default_format_can_be_read() {
    assert!(format::text(DEFAULT_FORMAT).is_ok_and(|pieces| pieces.len() > 20));
}
