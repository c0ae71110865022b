"""Routes of the pages. No trailing slashes but the start page's own."""

from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, path
from django.views.generic import RedirectView

from apps.accounts import oidc
from apps.accounts.forms import LoginForm
from apps.web import account, views
from apps.web.gate import open_page

login = account.LoginView.as_view(
    authentication_form=LoginForm, template_name="ui/login.html", redirect_authenticated_user=True
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("", open_page(RedirectView.as_view(pattern_name="ui-start")), name="root"),
    path("ui/", views.start, name="ui-start"),
    path("ui/login", open_page(login), name="ui-login"),
    path("ui/logout", open_page(LogoutView.as_view()), name="ui-logout"),
    path("ui/account", account.page, name="ui-account"),
    path("ui/oidc/login", open_page(oidc.login), name="ui-oidc-login"),
    path("ui/oidc/callback", open_page(oidc.callback), {"provider_id": oidc.PROVIDER}, name="openid_connect_callback"),
    path("ui/executions/<uuid:execution_id>", views.execution, name="ui-execution"),
    path("ui/workflows/<slug:slug>", views.workflow, name="ui-workflow"),
]
