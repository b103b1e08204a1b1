"""A catalogue for tests of pages: a service with everything, one with nothing, one that ended, one that attacks."""

from datetime import date

from lookup.catalogue import Agency, Catalogue, Paper, Papers, Part, Service, TimeLimit

TODAY = date(2026, 11, 30)
LONG_AGO = date(2020, 1, 1)
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)><!--{{7*7}}\u2028&amp;"


def limit(channel: str = "any", hours: int | None = 40, **others: object) -> TimeLimit:
    known: dict[str, object] = {"channel": channel, "hours": hours, "valid_from": LONG_AGO}
    return TimeLimit(**known | others)  # type: ignore[arg-type]


AGENCIES = [
    Agency("G99", None, "Bảo hiểm xã hội Xứ Mẫu (hư cấu)", "Social Insurance of Sampleland", LONG_AGO, sample=True),
    Agency(
        *("G99.01", "G99", "Bảo hiểm xã hội tỉnh Sông Mây (hư cấu)", "Social Insurance of Song May", LONG_AGO),
        hotline="1900 0001",
        email="songmay@mau.example",
        address_vi="Số 1, đường Mẫu",
        address_en="1 Mau Street",
        complaint_url="https://mau.example/phan-anh",
    ),
    Agency(
        *("G99.02", "G99", "Bảo hiểm xã hội tỉnh Đồi Nắng (hư cấu)", "Social Insurance of Doi Nang", LONG_AGO),
        valid_to=date(2025, 7, 1),
        successor="G99.01",
        complaint_url="javascript:alert(1)",
    ),
]
FULL = Service(
    code="1.001",
    name_vi="Cấp lại thẻ bảo hiểm y tế",
    name_en="Re-issue of the health card",
    field_code="BHXH-Thu",
    sensitive=False,
    times=(
        limit(source="Điều 5 văn bản mẫu"),
        limit("online", 12),
        limit("any", None, service_case="verification", calendar_days=45),
        limit("direct", None, service_case="Có xác nhận", at_once=True),
        limit("online", 8, valid_from=date(2027, 1, 1)),
        limit("postal", 400, valid_to=date(2026, 11, 30)),
    ),
    papers=Papers(2, (Paper("Tờ khai mẫu", "Sample form", "01 bản chính"), Paper("Giấy tờ tùy thân", ""))),
    route=(Part("Kiểm tra", 16, "G99.01"), Part("Quyết định", 24, "G99")),
    channels=("direct", "online", "postal"),
    online="full",
    result_vi="Thẻ bảo hiểm y tế",
    result_en="Health card",
    legal_basis=("Luật mẫu số 1", "Nghị định mẫu số 2"),
    apply_url="https://nop.example/thu-tuc?ma=1.001&nguon=hoso24",
    fee_vi="Không thu phí",
    valid_from=LONG_AGO,
    valid_to=date(2030, 1, 1),
    sample=True,
)
BARE = Service("1.002", "Thủ tục chỉ có tên", "Service with a name only", "LVX", True, ())
ENDED = Service(
    *("1.003", "Thủ tục đã hết hiệu lực", "Service that ended", "BHXH-Thu", False, (limit(),)),
    apply_url="https://nop.example/cu",
    valid_from=LONG_AGO,
    valid_to=TODAY,
)
TO_COME = Service(
    *("1.004", "Thủ tục sắp áp dụng", "Service to come", "BHXH-Thu", False, (limit(hours=8),)),
    valid_from=date(2027, 1, 1),
)
ATTACKING = Service(
    code=f"X/{HOSTILE}",
    name_vi=f"Tên {HOSTILE}",
    name_en=f"Name {HOSTILE}",
    field_code=f"Lĩnh vực {HOSTILE}",
    sensitive=False,
    times=(limit(service_case=HOSTILE, source=HOSTILE), limit(hours=40)),
    papers=Papers(1, (Paper(HOSTILE, HOSTILE, HOSTILE),)),
    route=(Part(HOSTILE, 8, "G99.01"), Part(HOSTILE, 8, HOSTILE)),
    result_vi=HOSTILE,
    result_en=HOSTILE,
    legal_basis=(HOSTILE,),
    apply_url="javascript:alert(1)",
    fee_vi=HOSTILE,
    fee_en=HOSTILE,
    valid_from=LONG_AGO,
)
SERVICES = [FULL, BARE, ENDED, TO_COME, ATTACKING]
CATALOGUE = Catalogue({each.code: each for each in AGENCIES}, {each.code: each for each in SERVICES})
