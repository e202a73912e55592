"""What the provider knows: passages, questions about them, and ways to search.

What is imported `as` itself is for the bench, and for the doctor, who looks at the model's file.
"""

from course_lib.service.knowledge import model as model
from course_lib.service.knowledge.corpus import load_passages as load_passages
from course_lib.service.knowledge.corpus import load_questions as load_questions
from course_lib.service.knowledge.tokens import count_tokens as count_tokens
