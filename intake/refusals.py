"""The refusals of the ledger, each with a stable code and a title in both languages."""

from ops.errors import Kind, Refusal, Unavailable


class StillRunning(Refusal):
    """The first request with this idempotency key has not ended yet."""

    kind = Kind.CONFLICT
    code = "still_running"
    title = "The first request with this Idempotency-Key is still running."
    title_vi = "Yêu cầu đầu tiên với Idempotency-Key này vẫn đang được xử lý."
    advice = "Send the same request again after a second: it gets the first one's answer."
    advice_vi = "Gửi lại đúng yêu cầu đó sau một giây: sẽ nhận được câu trả lời của yêu cầu đầu tiên."
    repeating_helps = True


class KeyRequired(Refusal):
    """A change was sent without an idempotency key, so that it could not be repeated safely."""

    kind = Kind.INVALID
    code = "idempotency_key_required"
    title = "This request needs the header Idempotency-Key."
    title_vi = "Yêu cầu này cần có tiêu đề Idempotency-Key."
    advice = "Send Idempotency-Key with a value of your own, a UUID for example, and the same one when you repeat."
    advice_vi = "Gửi Idempotency-Key với giá trị tự chọn, chẳng hạn một UUID, và giữ nguyên giá trị đó khi gửi lại."


class KeyReused(Refusal):
    """The idempotency key was used for another request."""

    kind = Kind.UNPROCESSABLE
    code = "idempotency_key_reused"
    title = "This Idempotency-Key was used for a different request."
    title_vi = "Idempotency-Key này đã được dùng cho một yêu cầu khác."
    advice = "Take a new key for each new request; keep a key only for repeats of the same one."
    advice_vi = "Mỗi yêu cầu mới dùng một khóa mới; chỉ giữ khóa cũ khi gửi lại đúng yêu cầu cũ."


class OutcomeUnknown(Unavailable):
    """The deadline passed before the transaction ended; a repeat with the same key returns the outcome."""

    code = "outcome_unknown"
    title = "It is not known yet whether this was recorded. Repeat the request with the same Idempotency-Key."
    title_vi = "Chưa xác định được yêu cầu đã được ghi nhận hay chưa. Vui lòng gửi lại với cùng Idempotency-Key."
    advice = "Send the same request with the same Idempotency-Key until an answer says what became of it."
    advice_vi = "Gửi lại cùng yêu cầu với cùng Idempotency-Key cho đến khi có câu trả lời về kết quả."


class UnknownDossier(Refusal):
    """No dossier has this code."""

    kind = Kind.NOT_FOUND
    code = "dossier_not_found"
    title = "There is no dossier with this code."
    title_vi = "Hệ thống này chưa có hồ sơ mang mã này."
    advice = "Compare the code. A dossier outside the client's scope is answered in the same way."
    advice_vi = "So lại mã. Hồ sơ ngoài phạm vi của hệ thống gửi cũng được trả lời như vậy."


class UnknownAgency(Refusal):
    """The catalogue has no such agency."""

    kind = Kind.UNPROCESSABLE
    code = "unknown_agency"
    title = "There is no such agency in the catalogue."
    title_vi = "Không có cơ quan này trong danh mục."
    advice = "Take the agency's code from the catalogue, /api/v1/agencies of the lookup."
    advice_vi = "Lấy mã cơ quan từ danh mục /api/v1/agencies của dịch vụ tra cứu."


class CannotNumber(Refusal):
    """The agency's identifier does not fit the scheme of new codes."""

    kind = Kind.UNPROCESSABLE
    code = "agency_cannot_number"
    title = "Dossiers of this agency cannot be numbered in the configured scheme."
    title_vi = "Không thể cấp mã hồ sơ cho cơ quan này theo cấu trúc mã đang dùng."
    advice = "Ask the operator: the agency's code does not fit the way in which this installation numbers dossiers."
    advice_vi = "Liên hệ đơn vị vận hành: mã cơ quan không phù hợp với cách hệ thống này cấp mã hồ sơ."


class UnknownService(Refusal):
    """The catalogue has no such service."""

    kind = Kind.UNPROCESSABLE
    code = "unknown_service"
    title = "There is no such service in the catalogue."
    title_vi = "Không có thủ tục này trong danh mục."
    advice = "Take the service's code from the catalogue, /api/v1/services of the lookup."
    advice_vi = "Lấy mã thủ tục từ danh mục /api/v1/services của dịch vụ tra cứu."


class AgencyEnded(Refusal):
    """The agency was dissolved before that day; `successor` is the one that answers for it, if there is one."""

    kind = Kind.UNPROCESSABLE
    code = "agency_ended"
    title = "This agency no longer exists on that day."
    title_vi = "Cơ quan này đã kết thúc hoạt động trước ngày đó."
    advice = "Send it for the agency that `successor` names."
    advice_vi = "Gửi cho cơ quan nêu ở successor."


class AgencyNotBegun(Refusal):
    """The agency takes nothing in before its first day."""

    kind = Kind.UNPROCESSABLE
    code = "agency_not_begun"
    title = "This agency does not exist yet on that day."
    title_vi = "Cơ quan này chưa hoạt động vào ngày đó."


class ServiceEnded(Refusal):
    """The service was ended before that day."""

    kind = Kind.UNPROCESSABLE
    code = "service_ended"
    title = "This service is no longer in force on that day."
    title_vi = "Thủ tục này đã hết hiệu lực trước ngày đó."


class ServiceNotBegun(Refusal):
    """The service is not in force before its first day."""

    kind = Kind.UNPROCESSABLE
    code = "service_not_begun"
    title = "This service is not in force yet on that day."
    title_vi = "Thủ tục này chưa có hiệu lực vào ngày đó."


class MoveNotAllowed(Refusal):
    """A dossier in this status cannot take the requested status; `allowed` lists those that it can take."""

    kind = Kind.CONFLICT
    code = "move_not_allowed"
    title = "A dossier in this status cannot take that status."
    title_vi = "Hồ sơ ở trạng thái này không thể chuyển sang trạng thái đó."
    advice = "Read the dossier again; `allowed` lists the statuses that it can take now."
    advice_vi = "Đọc lại hồ sơ; allowed liệt kê các trạng thái có thể chuyển sang lúc này."


class VersionMismatch(Refusal):
    """The dossier has another version than the client expects; `version` is the present version."""

    kind = Kind.PRECONDITION
    code = "version_mismatch"
    title = "The dossier has changed since the version you expected."
    title_vi = "Hồ sơ đã thay đổi so với phiên bản được nêu trong yêu cầu."
    advice = (
        "Read the dossier again, decide by its state now, and send the request with its version, which `version` is."
    )
    advice_vi = "Đọc lại hồ sơ, quyết định theo tình trạng hiện tại, rồi gửi lại kèm phiên bản nêu ở version."


class NumberTaken(Refusal):
    """The official number belongs to another dossier, or this dossier has another number already."""

    kind = Kind.CONFLICT
    code = "number_taken"
    title = "This official number is taken, or the dossier has another one."
    title_vi = "Số hồ sơ này đã được dùng, hoặc hồ sơ đã có số khác."
    advice = "Check the number; if it is right, ask the agency which dossier has it."
    advice_vi = "Kiểm tra lại số hồ sơ; nếu đúng, hỏi cơ quan xem hồ sơ nào đang mang số này."


class TargetNotAllowed(Refusal):
    """A dossier is handed to a valid agency of the same or a higher level under the same root, or to one that the
    service's route names."""

    kind = Kind.UNPROCESSABLE
    code = "target_not_allowed"
    title = "The dossier cannot be handed to this agency."
    title_vi = "Không thể chuyển hồ sơ đến cơ quan này."


class BadDate(Refusal):
    """A time in the future or before 1990, or one that lets the due date fall into the past."""

    kind = Kind.UNPROCESSABLE
    code = "bad_date"
    title = "This time cannot be right."
    title_vi = "Thời điểm này không hợp lệ."


class DatesOutOfOrder(Refusal):
    """The step would stand before one that is recorded already; `last_at` is that one's time."""

    kind = Kind.UNPROCESSABLE
    code = "dates_out_of_order"
    title = "This step would stand before an earlier one of the dossier."
    title_vi = "Thời điểm này trước bước đã ghi nhận của hồ sơ."


class BackdatedTooFar(Refusal):
    """The time lies further back than may be written down later; `earliest` is the first day that may be given."""

    kind = Kind.UNPROCESSABLE
    code = "backdated_too_far"
    title = "This time lies too far back to be recorded now."
    title_vi = "Thời điểm này đã quá lâu, không thể ghi nhận bổ sung."


class ReasonRequired(Refusal):
    """The change needs a reason, and a supplement a list of items; `missing` names which."""

    kind = Kind.UNPROCESSABLE
    code = "reason_required"
    title = "This change needs a reason, and a request for a supplement a list of what is missing."
    title_vi = "Cần nêu rõ lý do. Yêu cầu bổ sung cần có danh mục giấy tờ còn thiếu."
    advice = "Send what `missing` names."
    advice_vi = "Gửi bổ sung nội dung nêu ở missing."


class WrongTask(Refusal):
    """There is no such task, or what is asked of it cannot be done as it stands."""

    kind = Kind.CONFLICT
    code = "wrong_task"
    title = "This cannot be done with that task."
    title_vi = "Không thể thực hiện thao tác này với phần việc đó."


class TasksLive(Refusal):
    """The work is not completed while another agency owes its part; `tasks` has the numbers."""

    kind = Kind.CONFLICT
    code = "tasks_live"
    title = "Another agency's part of the work has not ended."
    title_vi = "Còn phần việc của cơ quan khác chưa kết thúc."


class TooManyTasks(Refusal):
    """A dossier has twelve tasks at most."""

    kind = Kind.CONFLICT
    code = "too_many_tasks"
    title = "This dossier has as many tasks as it may have."
    title_vi = "Hồ sơ đã có đủ số phần việc tối đa."


class PolicyBlocks(Refusal):
    """A rule of the service forbids this; `rule`, `value`, `found` and `source` say which."""

    kind = Kind.CONFLICT
    code = "policy_blocks"
    title = "A rule of this service forbids this."
    title_vi = "Quy định của thủ tục này không cho phép thực hiện."


class PolicyAsks(Refusal):
    """A rule of the service allows this with a reason only: send it again with `override`; `rules` says which."""

    kind = Kind.CONFLICT
    code = "policy_asks"
    title = "A rule of this service asks for a reason: send it again with one in override."
    title_vi = "Quy định của thủ tục này yêu cầu nêu căn cứ: hãy gửi lại và nêu căn cứ trong override."


class NoPapers(Refusal):
    """This installation issues no papers, or the dossier is one of the sandbox."""

    kind = Kind.CONFLICT
    code = "no_papers"
    title = "No papers are issued here for this dossier."
    title_vi = "Hệ thống này không cấp giấy tờ cho hồ sơ này."
    advice = "Papers need a key that stamps them, which the operator sets up; dossiers of the sandbox have none."
    advice_vi = "Cần có khóa xác thực giấy do đơn vị vận hành thiết lập; hồ sơ của môi trường thử nghiệm không có giấy."


class HistoryDiffers(Refusal):
    """What is stored under this code is another dossier, or tells another history; `differs` names in what."""

    kind = Kind.CONFLICT
    code = "history_differs"
    title = "The dossier stored under this code differs from this one."
    title_vi = "Hồ sơ đã lưu với mã này có nội dung khác."


class KeysUsedUp(Refusal):
    """The lookup key of this dossier has been issued anew as often as its five-bit serial allows."""

    kind = Kind.CONFLICT
    code = "keys_used_up"
    title = "The lookup key of this dossier cannot be issued anew any more."
    title_vi = "Không thể cấp lại mã tra cứu cho hồ sơ này nữa."
    advice = "Nothing more can be issued; the newest receipt's key stays valid."
    advice_vi = "Không cấp thêm được nữa; mã tra cứu trên giấy tiếp nhận mới nhất vẫn dùng được."


class UnknownLetter(Refusal):
    """No open dead letter of this client has this number."""

    kind = Kind.NOT_FOUND
    code = "dead_letter_not_found"
    title = "There is no open dead letter with this number."
    title_vi = "Không có dòng dữ liệu bị từ chối nào đang chờ xử lý mang số này."


class LetterIncomplete(Refusal):
    """The line was longer than what is kept of it, or was no UTF-8."""

    kind = Kind.CONFLICT
    code = "dead_letter_incomplete"
    title = "The line could not be kept as it was sent. Correct it and send it yourself."
    title_vi = "Dòng dữ liệu không được lưu nguyên vẹn. Vui lòng sửa và tự gửi lại."


class SyncRunning(Refusal):
    """A client has one synchronisation at a time in a process; the other one has not ended yet."""

    kind = Kind.CONFLICT
    code = "sync_running"
    title = "Another synchronisation of this client is still running."
    title_vi = "Một lần đồng bộ khác của hệ thống này vẫn đang chạy."
    usual_retry_after = 1
    repeating_helps = True


class UnsupportedType(Refusal):
    """The body is of another media type than the endpoint takes."""

    kind = Kind.UNSUPPORTED
    code = "unsupported_media_type"
    title = "A body of this media type is not taken here."
    title_vi = "Không nhận nội dung thuộc kiểu dữ liệu này."


# -- in lines of a synchronisation only ------------------------------------------------------------------------


class LineTooLong(Refusal):
    """The line has more bytes than one may have."""

    kind = Kind.UNPROCESSABLE
    code = "line_too_long"
    title = "This line is too long."
    title_vi = "Dòng dữ liệu này quá dài."


class IdReused(Refusal):
    """The id came before with another dossier, status or time."""

    kind = Kind.CONFLICT
    code = "id_reused"
    title = "This id was used for another change."
    title_vi = "Mã định danh này đã được dùng cho một thay đổi khác."
    advice = "Give each change an id of its own, and keep it when you send the same change again."
    advice_vi = "Mỗi thay đổi cần một mã định danh riêng; chỉ giữ nguyên mã khi gửi lại đúng thay đổi đó."


class RefusedByDatabase(Refusal):
    """PostgreSQL refuses what the line says; `detail` has its reason."""

    kind = Kind.UNPROCESSABLE
    code = "refused_by_database"
    title = "This line cannot be stored."
    title_vi = "Không thể lưu dòng dữ liệu này."


class RelayBehind(Unavailable):
    """What was recorded is delivered too late, so that nothing more is taken in bulk; single changes are."""

    code = "relay_behind"
    title = "Changes are delivered late, so no more lines are taken for now."
    title_vi = "Việc chuyển thay đổi đang chậm, tạm thời chưa nhận thêm dòng dữ liệu."
    usual_retry_after = 10


class TookTooLong(Unavailable):
    """The time or the number of lines of one synchronisation is used up."""

    code = "too_long"
    title = "This line was not reached within the time and length of one synchronisation."
    title_vi = "Chưa xử lý đến dòng này trong thời hạn và số dòng của một lần đồng bộ."
    advice = "Send the lines that were not done again, at most ten thousand in a body."
    advice_vi = "Gửi lại các dòng chưa xử lý, mỗi lần tối đa mười nghìn dòng."


class DatabaseAway(Unavailable):
    """PostgreSQL did not answer in time; nothing of this line was recorded."""

    code = "database_away"
    title = "This line was not recorded, because the database does not answer."
    title_vi = "Dòng này chưa được ghi nhận vì cơ sở dữ liệu không phản hồi."
    usual_retry_after = 5


class UnknownPaper(Refusal):
    """The dossier has no paper that was issued with this version."""

    kind = Kind.NOT_FOUND
    code = "paper_not_found"
    title = "This dossier has no such paper."
    title_vi = "Hồ sơ này không có giấy tờ này."
    advice = "Take the version from the list of the dossier's papers."
    advice_vi = "Lấy phiên bản từ danh sách giấy tờ của hồ sơ."


class PaperErased(Refusal):
    """The content of the paper was erased when its dossier's time of keeping was over."""

    kind = Kind.GONE
    code = "paper_erased"
    title = "The content of this paper was erased."
    title_vi = "Nội dung của giấy này đã được xóa theo thời hạn lưu giữ."


class PaperNotReady(Unavailable):
    """The paper could not be made in time."""

    code = "paper_not_ready"
    title = "This paper cannot be made at the moment."
    title_vi = "Tạm thời chưa tạo được bản in của giấy này."
    advice = "Repeat the request after a few seconds: the paper itself is issued and recorded."
    advice_vi = "Gửi lại yêu cầu sau vài giây: giấy đã được cấp và ghi nhận."


class DossierHeld(Refusal):
    """A legal hold keeps the dossier."""

    kind = Kind.CONFLICT
    code = "dossier_held"
    title = "A legal hold keeps this dossier: it cannot be removed."
    title_vi = "Hồ sơ đang được giữ theo yêu cầu pháp lý nên không xóa được."
    advice = "`hoso24 hold list` says why; lift the hold first."
    advice_vi = "Lệnh `hoso24 hold list` cho biết lý do; cần bỏ việc giữ trước."
