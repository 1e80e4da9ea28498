-- What a question is about when a step asks for a capability. NULL when it is about something else.
ALTER TABLE approvals ADD COLUMN permission TEXT;
